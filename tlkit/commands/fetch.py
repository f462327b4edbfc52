"""``python -m tlkit fetch``: photos and weights ahead of time."""

from __future__ import annotations

import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Mapping

from tlkit.commands import catalog, machine
from tlkit.commands.output import complain, say
from tlkit.errors import quoted
from tlkit.files import downloads
from tlkit.files.downloads import DownloadError, Remote
from tlkit.memory import counted, readable_size

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Fetch what was named, and return 1 when something of it did not come; without names, say what there is."""
    names = dict.fromkeys([*(catalog.LESSONS if options.all else ()), *options.names])
    if not names:
        _say_what_there_is()
        return 0
    for name in filter(catalog.WITHOUT_DOWNLOAD.get, names):
        say(f"{name}: nothing to fetch, {catalog.WITHOUT_DOWNLOAD[name]}")
    wanted = {name: catalog.find(name) for name in names if name not in catalog.WITHOUT_DOWNLOAD}
    failed = [name for name, remote in wanted.items() if not _fetched(name, remote)]
    if failed:
        complain(f"{len(failed)} of {counted(len(wanted), 'file')} did not come. Run the same command again to go on.")
    return 1 if failed else 0


def _fetched(name: str, remote: Remote) -> bool:
    """Fetch a file and say so; the others still come when it does not."""
    if downloads.find_fault(remote) is None:
        say(f"{name}: here already, verified: {remote.path}")
        return True
    say(f"{name}: fetching {remote.name}, {remote.size_in_words}")
    start = time.perf_counter()
    try:
        path = downloads.fetch(remote, progress=sys.stderr.isatty())
    except DownloadError as error:
        complain(f"{name}: {error}")
        return False
    seconds = time.perf_counter() - start
    say(f"{name}: {readable_size(path.stat().st_size)} came in {seconds:,.1f} s, verified: {path}")
    return True


# -- what there is --------------------------------------------------------------------------------------------------


def _say_what_there_is() -> None:
    files = catalog.LESSONS | _others_here()
    rows = [("name", "size", "what", "here")]
    rows += [(name, file.size_in_words, catalog.describe(name), _state(file)) for name, file in files.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    say()
    say(f"The notebooks' defaults, {quoted(catalog.WITHOUT_DOWNLOAD)}, need no download.")
    say("'fetch --all' gets what they can use besides, 'fetch NAME' one of it or another of torchvision's networks.")
    say(f"All is kept in {downloads.home()}, where {_free()} are free.")
    for name, value in machine.settings().items():
        if name in {"TLKIT_MIRROR", "TLKIT_OFFLINE"}:
            say(f"{name}={value} is set.")


def _others_here() -> Mapping[str, Remote]:
    """Return the files that lie here, whole or in part, and that the lessons don't need."""
    folder = downloads.home() / "weights"
    lying = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    lessons = {file.name for file in catalog.LESSONS.values()}
    if all(name.startswith(tuple(lessons)) for name in lying):
        return {}
    return {
        name: file  # to know the others takes seconds, since torchvision knows them
        for name, file in catalog.files().items()
        if name not in catalog.LESSONS and lying & {file.name, file.part.name}
    }


def _state(remote: Remote) -> str:
    problem = downloads.find_fault(remote)
    if problem is None:
        return "yes, verified"
    if problem:
        return f"no: {problem}"
    have = remote.part.stat().st_size if remote.part.is_file() else 0
    return f"no, but {readable_size(have)} of it: fetch goes on there" if have else "no"


def _free() -> str:
    home = downloads.home()
    existing = next(place for place in (home, *home.parents) if place.exists())
    return readable_size(shutil.disk_usage(existing).free)
