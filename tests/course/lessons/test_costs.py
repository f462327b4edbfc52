"""What a notebook costs: measured with the processes it starts, said in its first cell."""

from __future__ import annotations

import datetime
import subprocess
import sys

import pytest
from small_notebooks import CARD

from tlkit.course.lessons import costs


def test_cost_line_stays_until_the_cost_moves_by_a_third():
    assert costs.updated_card(CARD, costs.Cost(14.9, 1_100_000_000)) == CARD
    assert costs.updated_card("no cost line here", costs.Cost(99, 10**9)) == "no cost line here"


@pytest.mark.parametrize("cost", [costs.Cost(20.4, 900_000_000), costs.Cost(12, 1_400_000_000)])
def test_cost_line_is_rewritten_when_the_cost_moved(cost, monkeypatch):
    monkeypatch.setattr(costs, "cores", lambda: 4)
    updated = costs.updated_card(CARD, cost)
    today = datetime.date.today().isoformat()
    measured = f"run {cost.seconds:.0f} s, {cost.peak_bytes / 1e9:.1f} GB on 4 cores (measured {today})"
    assert updated == f"Reading 8 min · {measured} · [next](01_next.ipynb)"
    assert costs.updated_card(updated, cost) == updated


def test_costs_over_the_limits_are_said():
    assert costs.Cost(45, 1_500_000_000).over_limits() == ""
    assert costs.Cost(46, 1_600_000_000).over_limits() == (
        "46 s is over the limit of 45 s and 1.6 GB is over the limit of 1.5 GB"
    )


@pytest.mark.slow
def test_peak_memory_is_that_of_processes_started_inside():
    program = "import time; block = bytearray({} * 10**6); time.sleep({})"
    earlier = subprocess.Popen([sys.executable, "-c", program.format(600, 30)])
    try:
        with costs.PeakMemory() as memory:
            subprocess.run([sys.executable, "-c", program.format(200, 1)], check=True)
    finally:
        earlier.kill()
        earlier.wait()
    assert 200e6 < memory.bytes < 400e6
