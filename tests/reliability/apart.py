"""Work in a process of its own, that may be killed, limited or given a disk of its own."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import pytest

LONGEST = 120  # seconds that a child may take on a busy machine
# A server that imported these and computed nothing forks the children: a process that ran a network may hang in a fork.
PRELOADED = ["__main__", "tlkit", "tlkit.helper", "tlkit.images.sets", "torchvision.models.vgg"]


class Child:
    """One function call in another process; its result, its error or a word from it comes back.

    Parameters
    ----------
    work : function of a module
        Called with a function that sends a word to the parent, then the arguments.
    """

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:
        if os.name != "posix":
            pytest.skip("processes are forked and killed by signals: POSIX only")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._words, childs_end = context.Pipe()
        self.process = context.Process(target=_run, args=(childs_end, work, *arguments))
        self.process.start()
        childs_end.close()

    def word(self) -> Any:
        """Wait for the next word that the child sends."""
        kind, content = self._next()
        assert kind == "word", content
        return content

    def result(self) -> Any:
        """Wait for the end, and return the result or fail with the child's traceback."""
        kind, content = self._next()
        while kind == "word":
            kind, content = self._next()
        self.process.join(LONGEST)
        if kind == "skipped":
            pytest.skip(content)
        assert kind == "result", content
        return content

    def kill(self) -> bool:
        """Kill the child as `kill -9` does, and return whether it was still at work."""
        self.process.kill()
        self.process.join(LONGEST)
        return self.process.exitcode < 0

    def _next(self) -> tuple[str, Any]:
        assert self._words.poll(LONGEST), "the child says nothing"
        try:
            return self._words.recv()
        except EOFError:
            self.process.join(LONGEST)
            return "failed", f"the child ended with {self.process.exitcode}"


def _run(words: Connection, work: Callable[..., Any], *arguments: Any) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        answer = "result", work(lambda word: words.send(("word", word)), *arguments)
    except pytest.skip.Exception as skipped:
        answer = "skipped", str(skipped)
    except BaseException:
        answer = "failed", traceback.format_exc()
    with suppress(OSError):
        words.send(answer)
