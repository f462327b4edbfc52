"""The commands of ``python -m tlkit``: featurize, verify, info, fetch, serve and doctor.

A command answers on stdout and shows its progress on stderr. It returns 0, or 1 with a sentence about what is wrong,
2 when it was called wrongly, 130 after Ctrl-C, and 143 after SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tlkit.commands.output import complain, say
from tlkit.commands.parser import COMMANDS, make_parser
from tlkit.errors import UnknownVertexError, near_misses, printable, quoted

__all__ = ["main"]

FINE, PROBLEM, READER_GONE = 0, 1, 141

# What the package raises to tell people something. Anything else is a mistake of ours, and its traceback is needed.
DESCRIBED = (ValueError, OSError, RuntimeError, ImportError, MemoryError, UnknownVertexError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command, and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words behind ``python -m tlkit``; those of this process when left out.

    Raises
    ------
    SystemExit
        With code 2 when it was called wrongly, and with 0 for --help and --version.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser()
    if not arguments:
        say(parser.format_help().rstrip())
        return FINE
    if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        hint = near_misses(arguments[0], COMMANDS)
        parser.error(f"there is no command '{arguments[0]}', only {quoted(COMMANDS)}.{hint}")
    return _carry_out(f"{parser.prog} {arguments[0]}", parser.parse_args(arguments))


def _carry_out(name: str, options: Namespace) -> int:
    try:
        with _plain_warnings():
            # imported now, so that --help and mistakes are answered without waiting for torch
            run = importlib.import_module(f"tlkit.commands.{options.command}").run
            with _signals_raised():
                code = run(options)
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        words = "Stopped by SIGTERM" if isinstance(stop, _Terminated) else "Stopped"
        complain(f"\n{words}. Run the same command again to go on.")
        return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
    except BrokenPipeError:
        _close_quietly()
        return READER_GONE
    except DESCRIBED as error:
        complain(f"{name}: {_describe(error)}")
        return PROBLEM
    return code


class _Terminated(KeyboardInterrupt):
    """SIGTERM came, which ends a command as Ctrl-C does: what it has begun is tidied up."""


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM, unless they are ignored, raise an exception."""

    def stop(number: int, frame: Any) -> None:
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()  # no other may set them
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if here}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe(error: Exception) -> str:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's own, for GPUs
        return "There is not enough memory. A smaller --batch-size takes less."
    if isinstance(error, OSError) and error.strerror:  # without "[Errno 28]" in front of it
        return f"{error.strerror}: '{printable(error.filename, None)}'" if error.filename else error.strerror
    return str(error) or type(error).__name__


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings without the line of code that gave them."""

    def show(message: Any, *_: Any, **__: Any) -> None:
        complain(f"Warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _close_quietly() -> None:
    """Let Python end without a complaint that nobody reads its output any more, as after ``| head``."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
