"""The checks of the exercises in notebook 13: right answers are right, wrong ones get their hint."""

from __future__ import annotations

from answers import refused

import tlkit as tl


def test_cores_that_decode():
    assert tl.check("13.1", 48)
    assert tl.check("13.1", 48.0)
    refused("13.1", 6, "There are eight")
    refused("13.1", 24_000, "How many cores decode as many")
    refused("13.1", 4, "4 is not it")
    refused("13.1", "many", "a whole number")


def test_the_part_of_a_job():
    assert tl.check("13.2", {1, 5, 9})
    assert tl.check("13.2", range(1, 10, 4))
    refused("13.2", {2, 6}, "jobs are counted from 1, shards from 0")
    refused("13.2", [3, 4], "dealt out like cards")
    refused("13.2", {1, 5}, "who gets shard 4")
    refused("13.2", 1, "there are more")
    refused("13.2", {2, 6, 10}, "there is no shard 10")
    refused("13.2", "2/4", "there is no shard '2/4'")
    refused("13.2", {0, 4, 8}, "Which go to 2/4")
