"""One file on its way to the disk: kept as a part that the next connection, or the next day, can continue."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests
import urllib3

from tlkit.errors import printable
from tlkit.files import web
from tlkit.files.web import Failed, open_answer, read_some

__all__ = ["Part", "Unreachable", "bar"]

TRIES = 5  # in a row that bring nothing new
BACK_OFF = 0.5  # seconds before the second try, doubled from try to try
PATIENCE = 60  # seconds; a server that asks for a longer wait is given up
SLOWEST, AT_LEAST = 10_000, 300  # bytes a second, and seconds; what takes longer in all is given up
CHUNK = 1 << 16  # bytes
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class Unreachable(Failed):
    """A machine that does not answer; its other addresses need not be tried."""


class Interrupted(Failed):
    """A source that may do at the next try, not sooner than `wait` seconds from now; `reached` if it answered."""

    def __init__(self, message: str, wait: float = 0, *, reached: bool = True) -> None:
        super().__init__(message)
        self.wait, self.reached = wait, reached


@dataclass(frozen=True)
class Part:
    """What has come of a file.

    Parameters
    ----------
    path : Path
        Where the bytes are kept, beside a small ``.json`` that says where they came from.
    size : int or None
        Size of the whole file in bytes, where it is known.
    most : int
        Most bytes that are taken where it is not.
    check : callable
        Takes the path of the whole file; returns its digest or raises `Failed`.
    name : str
        The file's name, for the progress bar.
    progress : bool
        Whether there is a bar.
    """

    path: Path
    size: int | None
    most: int
    check: Callable[[Path], str]
    name: str
    progress: bool = True

    @property
    def have(self) -> int:
        """Number of bytes on the disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    def copy(self, source: Path) -> str:
        """Fill the part from a file and return its digest."""
        try:
            file = source.open("rb")
        except OSError as error:
            raise Failed(error.strerror) from error
        with file:
            self.discard()
            self._pour(file.read, 0, source.stat().st_size)
        return self._checked(resumed=False)

    def download(self, url: str) -> str:
        """Fill the part over as many connections as bring something new, and return its digest."""
        most, tries = self.have, 0
        seconds = AT_LEAST + max(0, self._most - most) / SLOWEST
        deadline = time.monotonic() + seconds
        while True:
            resumed = self.have > 0
            try:
                self._connect(url, deadline - time.monotonic())
                return self._checked(resumed=resumed)
            except Interrupted as problem:
                tries = 1 if self.have > most else tries + 1
                most = max(most, self.have)
                if time.monotonic() >= deadline:
                    msg = f"after {seconds:,.0f} s there are {self._share(self.size)}, and no more is waited for"
                    raise Failed(msg) from problem
                if tries == TRIES or problem.wait > PATIENCE:
                    wish = f", to come back in {problem.wait:.0f} s" if problem.wait > PATIENCE else ""
                    msg = f"{problem}{wish} ({tries} {'try' if tries == 1 else 'tries'})"
                    raise (Failed if problem.reached else Unreachable)(msg) from problem
                wait = max(problem.wait, BACK_OFF * 2 ** (tries - 1) * random.uniform(1, 1.5))
                with bar(self.progress, f"{self.name}: {problem}; next try in {wait:.0f} s"):
                    time.sleep(wait)

    def discard(self) -> None:
        """Remove what has come."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _checked(self, *, resumed: bool) -> str:
        """Return the digest; a wrong part is removed, and gets another try, from nothing, if it was continued."""
        try:
            return self.check(self.path)
        except Failed as wrong:
            self.discard()
            if resumed:
                raise Interrupted(str(wrong)) from wrong
            raise

    def _connect(self, url: str, seconds: float) -> None:
        """Continue over one connection."""
        have, total = self.have, self.size
        if have and have == total:
            return
        headers, validator = self._question(url, have)
        try:
            with open_answer(url, headers, seconds) as response:
                start, total = self._answer(response, have, validator)
                if start and start == total:
                    return
                self._note.write_text(json.dumps({"url": url, "validator": _validator(response)}))
                self._pour(partial(read_some, response), start, total)
        except requests.exceptions.SSLError as error:
            msg = f"no trusted connection{_reason(error)}"
            raise Failed(msg) from error
        except requests.ConnectTimeout as error:
            msg = f"no answer within {web.TIMEOUT[0]} s"
            raise Interrupted(msg, reached=False) from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            msg = f"nothing came for {web.TIMEOUT[1]} s after {self._share(total)}"
            raise Interrupted(msg) from error
        except requests.ConnectionError as error:
            msg = f"no connection{_reason(error)}"
            raise Interrupted(msg, reached=False) from error
        except (requests.RequestException, ValueError, OverflowError) as error:  # an address or a header without sense
            raise Failed(printable(error)) from error
        except urllib3.exceptions.HTTPError as error:
            msg = f"the connection broke after {self._share(total)}{_reason(error)}"
            raise Interrupted(msg) from error
        if total is not None and self.have < total:
            msg = f"the connection ended after {self._share(total)}"
            raise Interrupted(msg)

    def _question(self, url: str, have: int) -> tuple[dict[str, str], str | None]:
        """Return the request's headers, and what the server called this version of the file."""
        headers, validator = {}, None
        if have:
            headers["Range"] = f"bytes={have}-"
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                note = json.loads(self._note.read_text())
                validator = note["validator"] if note["url"] == url else None
            if validator:
                headers["If-Range"] = validator
        return headers, validator

    def _answer(self, response: requests.Response, have: int, validator: str | None) -> tuple[int, int | None]:
        """Return the byte at which the answer starts, and the size of the whole file."""
        status = response.status_code
        if status not in {200, 206, 416}:
            msg = f"{status} {printable(response.reason)}"
            raise Interrupted(msg, _retry_after(response)) if status in TRANSIENT else Failed(msg)
        if status == 200:
            start, total = 0, _content_length(response, -1 if self.size is None else self.size)
        else:
            span = re.match(
                r"bytes (?:([0-9]{1,18})-[0-9]+|\*)/([0-9]{1,18})", response.headers.get("Content-Range", "")
            )
            start, total = (int(span[1] or span[2]), int(span[2])) if span else (-1, -1)
            if start != have or (validator and _validator(response) not in {None, validator}):
                self.discard()
                msg = "the server's file has changed since the download began"
                raise Interrupted(msg)
        if self.size not in {None, total}:
            msg = f"the server's file has {total:,} bytes, expected {self.size:,}"
            raise Failed(msg)
        if total > self._most:
            msg = f"the server's file has {total:,} bytes, and no more than {self._most:,} are taken"
            raise Failed(msg)
        free = shutil.disk_usage(self.path.parent).free
        if total - start > free:
            msg = f"{total - start:,} more bytes are needed, and {free:,} are free in {self.path.parent}"
            raise Failed(msg)
        return start, total if total >= 0 else None

    def _pour(self, read: Callable[[int], bytes], start: int, total: int | None) -> None:
        have = start
        with self.path.open("ab" if start else "wb") as file, bar(self.progress, self.name, start, total) as shown:
            while have <= self._most and (chunk := read(min(CHUNK, self._most + 1 - have))):
                have += file.write(chunk)
                shown.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if have > self._most:
            self.discard()
            msg = f"more than {self._most:,} bytes came, and no more are taken"
            raise Failed(msg)

    @property
    def _most(self) -> int:
        return self.most if self.size is None else self.size

    def _share(self, total: int | None) -> str:
        return f"{self.have:,} of {'an unknown number of' if total is None else f'{total:,}'} bytes"

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")


def bar(progress: bool, text: str, start: int | None = None, total: int | None = None) -> Any:
    """Return a progress bar; without `start` it only shows the text."""
    from tqdm.auto import tqdm  # here, since in a notebook it imports ipywidgets

    options = {"bar_format": "{desc}"} if start is None else {"initial": start, "total": total}
    return tqdm(desc=text, unit="B", unit_scale=True, leave=False, disable=not progress, **options)


def _validator(response: requests.Response) -> str | None:
    """Return what If-Range may name: a strong ETag, or the file's time."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _content_length(response: requests.Response, otherwise: int) -> int:
    value = response.headers.get("Content-Length")
    if value is None:
        return otherwise
    if not re.fullmatch("[0-9]{1,18}", value):
        msg = f"its Content-Length is '{printable(value, 60)}', expected a number of bytes"
        raise Failed(msg)
    return int(value)


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds()
    except (TypeError, ValueError, OverflowError, IndexError):
        return 0


def _reason(error: BaseException | None) -> str:
    """Return the operating system's own words, in parentheses, from the bottom of a chain of exceptions."""
    words = ""
    while error is not None:
        words = getattr(error, "strerror", None) or words
        error = error.__cause__ or error.__context__
    return f" ({words})" if words else ""
