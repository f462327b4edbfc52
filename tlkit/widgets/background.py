"""Work beside the notebook: the latest request runs in a thread, and a newer one ends it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

__all__ = ["Background", "GivenUp"]

GivenUp = Callable[[], bool]
Work = Callable[[GivenUp], None]


class Background:
    """Does what was asked for last, in a thread; what was asked for before is given up.

    Work is a function that gets another one, `given_up()`: once that says True, the work is wanted no more and ends at
    its next opportunity. Only one piece of work runs at a time. In a thread it may set traits of widgets; it must not
    print, for the text would land in whatever cell runs meanwhile.

    Parameters
    ----------
    delay : float
        Seconds to wait for a newer request before work begins.

    Examples
    --------
    >>> from tlkit.widgets.background import Background
    >>> background = Background()
    >>> done = []
    >>> background.ask(lambda given_up: done.append("asked"))
    >>> background.settle()
    >>> background.do(lambda given_up: done.append("done"))
    >>> done
    ['asked', 'done']
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self._working = threading.RLock()  # held by the one piece of work that runs
        self._worker: threading.Thread | None = None  # what it runs in
        self._asking = threading.Lock()  # some versions of ipykernel call handlers from a second thread
        self._latest = _Request()
        self._finalizer = weakref.finalize(self, _give_up_all, requests := weakref.WeakSet())  # at exit, too
        self._requests = requests

    def ask(self, work: Work) -> None:
        """Begin work in a thread, soon, and return at once."""
        request = self._new()
        request.thread = threading.Thread(
            target=self._run, args=(request, work, self.delay), daemon=True, name="tlkit widget"
        )
        request.thread.start()

    def do(self, work: Work) -> None:
        """Do work now, in this thread."""
        self._do(self._new(), work)

    def settle(self) -> None:
        """Return when nothing runs or waits to run; called by the work itself, at once."""
        me = threading.current_thread()
        while self._worker is not me and (thread := self._latest.thread) is not None and thread.is_alive():
            thread.join()

    def _new(self) -> _Request:
        with self._asking:
            self._latest.given_up.set()
            self._latest = request = _Request()
            self._requests.add(request)
        return request

    def _run(self, request: _Request, work: Work, delay: float) -> None:
        if not request.given_up.wait(delay):
            self._do(request, work)

    def _do(self, request: _Request, work: Work) -> None:
        with self._working:
            if request.given_up.is_set():
                return
            before, self._worker = self._worker, threading.current_thread()
            try:
                work(request.given_up.is_set)
            finally:
                self._worker = before


class _Request:
    def __init__(self) -> None:
        self.given_up = threading.Event()
        self.thread: threading.Thread | None = None


def _give_up_all(requests: weakref.WeakSet[_Request]) -> None:
    """A thread that still computes while Python ends would take the whole process down with it."""
    for request in list(requests):
        request.given_up.set()
        if request.thread is not None and request.thread is not threading.current_thread():
            request.thread.join(10)
