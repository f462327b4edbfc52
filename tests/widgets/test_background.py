"""Work beside the notebook: one piece at a time, and the latest wins."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

pytest.importorskip("ipywidgets")

from tlkit.widgets.background import Background


def test_work_is_done_in_another_thread_and_can_be_waited_for():
    background, threads = Background(), []
    background.ask(lambda given_up: threads.append(threading.current_thread()))
    background.settle()
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
    background.settle()  # nothing to wait for


def test_a_newer_request_gives_up_the_one_that_runs():
    background, log = Background(), []
    running = threading.Event()

    def patient(given_up):
        running.set()
        while not given_up():
            pass
        log.append("given up")

    background.ask(patient)
    running.wait(10)
    background.ask(lambda given_up: log.append(given_up()))
    background.settle()
    assert log == ["given up", False]


def test_of_many_requests_that_wait_the_last_one_is_done():
    background, done = Background(), []
    with background._working:  # something else is going on
        for number in range(20):
            background.ask(lambda given_up, number=number: done.append(number))
    background.settle()
    assert done == [19]


def test_a_request_that_is_replaced_within_the_delay_is_never_begun():
    background, done = Background(delay=30), []
    background.ask(lambda given_up: done.append("first"))
    background.delay = 0
    background.ask(lambda given_up: done.append("second"))
    background.settle()
    assert done == ["second"]


def test_never_two_pieces_of_work_at_once():
    background, busy = Background(), threading.Lock()
    collisions = []

    def work(given_up):
        if not busy.acquire(blocking=False):
            collisions.append(1)
            return
        for _ in range(100):
            given_up()
        busy.release()

    for number in range(30):
        (background.do if number % 5 == 0 else background.ask)(work)
    background.settle()
    assert collisions == []


def test_doing_at_once_gives_up_what_was_asked_and_raises_what_goes_wrong():
    background, done = Background(delay=30), []
    background.ask(lambda given_up: done.append("asked"))
    background.do(lambda given_up: done.append("done"))
    background.settle()
    assert done == ["done"]
    with pytest.raises(ZeroDivisionError):
        background.do(lambda given_up: 1 / 0)


def test_work_may_ask_whether_all_is_settled():
    background, done = Background(), []
    running, replaced = threading.Event(), threading.Event()

    def work(given_up):
        running.set()
        replaced.wait(10)
        background.settle()  # it does not wait for what waits for it
        done.append("first")

    background.ask(work)
    running.wait(10)
    background.ask(lambda given_up: done.append("second"))
    replaced.set()
    background.settle()
    assert done == ["first", "second"]


@pytest.mark.slow
def test_python_ends_in_order_while_work_is_going_on():
    code = (
        "import time, torch; from tlkit.widgets.background import Background; background = Background()\n"
        "def work(given_up):\n    while not given_up(): torch.rand(200, 200) @ torch.rand(200, 200)\n"
        "background.ask(work); time.sleep(0.05)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
