"""Sentences shared by the package's error messages."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["UnknownVertexError", "near_misses", "printable", "quoted", "sentence"]

JOINERS = "\u200c\u200d"  # they hold emoji, Persian and Indic words together, and steer nothing


class UnknownVertexError(KeyError):
    """A name that no vertex has; unlike a plain KeyError it prints its sentence without quotation marks."""

    def __str__(self) -> str:
        return str(self.args[0])


def near_misses(name: str, names: Iterable[str]) -> str:
    """Return `` Did you mean 'fc2'?`` for a mistyped name, or an empty string when nothing is close.

    Examples
    --------
    >>> from tlkit.errors import near_misses
    >>> near_misses("fc_2", ["fc1", "fc2", "flatten"])
    " Did you mean 'fc2'?"
    """
    import difflib  # here, so that the command line can soon be stopped quietly

    close = difflib.get_close_matches(str(name), list(names), n=3, cutoff=0.6)
    return f" Did you mean {quoted(close, 'or')}?" if close else ""


def quoted(names: Iterable[str], conjunction: str = "and") -> str:
    """Join names for a sentence: ``'a', 'b' and 'c'``."""
    items = [f"'{printable(name)}'" for name in names]
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def sentence(problem: BaseException) -> str:
    """Return what an exception says, without the quotation marks that a KeyError adds.

    Examples
    --------
    >>> from tlkit.errors import sentence
    >>> sentence(KeyError("There is no 'fc3'."))
    "There is no 'fc3'."
    """
    if isinstance(problem, KeyError) and problem.args:
        return str(problem.args[0])
    return str(problem) or type(problem).__name__


def printable(text: object, longest: int | None = 200) -> str:
    """Return what came from outside as one line that only shows itself.

    Escape sequences, line ends, and marks that turn the direction of writing are escaped; of a long text the middle
    is left out.

    Parameters
    ----------
    text : object
        A name of a class, file or member of an archive, or a line of a message.
    longest : int, optional
        Most characters before escaping; None for all.

    Examples
    --------
    >>> from tlkit.errors import printable
    >>> print(printable("rose\x1b[31m"))
    rose\\x1b[31m
    """
    text = str(text)
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 23]}...{text[-20:]}"
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    steers = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character not in JOINERS
    return character.encode("unicode_escape").decode() if steers else character
