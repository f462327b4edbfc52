"""Where pictures come from: drawings, the flower photos, folders and archives with a subfolder a class; lists."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tlkit.errors import near_misses, printable, quoted
from tlkit.files.storage import ADDRESS, RemotePath, place
from tlkit.images.decoding import SUFFIXES
from tlkit.images.tables import TABLES, group_by_class, read_table

__all__ = ["list_class_files", "find_class_folder", "find_equal_files", "find_pictures"]

ARCHIVES = (".tgz", ".tar.gz", ".tar", ".zip")
DRAWN_PER_CLASS = 100
COMPARED = 4096  # bytes of files of one size that are read before whole files are


def find_pictures(source: Any, *, per_class: int | None = None) -> tuple[Path | RemotePath, dict[str, list[Any]]]:
    """Return the folder that names of pictures begin in, and each class's picture files.

    Names of classes go everywhere from here, to terminals and web pages: what could steer one is escaped.

    Parameters
    ----------
    source : str, path, or sequence of (path, class)
        What `find_class_folder` takes; a folder on object storage; a table, or pairs.
    per_class : int, optional
        Flowers to draw for each class.

    Raises
    ------
    ValueError
        There is no such source, or it does not give pictures of two classes.
    """
    root, files = _root_and_files(source, per_class)
    return root, {printable(name): paths for name, paths in files.items()}


def _root_and_files(source: Any, per_class: int | None) -> tuple[Path | RemotePath, dict[str, list[Any]]]:
    if not isinstance(source, (str, os.PathLike, RemotePath)):
        return Path.cwd(), group_by_class(source, Path.cwd(), "the list of pictures")
    path = place(source)
    if path.suffix.lower() in TABLES and not path.is_dir():
        path = path.absolute()
        return path.parent, read_table(path)
    if isinstance(path, RemotePath):
        return path, _remote_files(path)
    root = find_class_folder(path if ADDRESS.match(str(source)) else source, per_class=per_class)
    return root, list_class_files(root)


def _remote_files(root: RemotePath) -> dict[str, list[RemotePath]]:
    """Return each class's pictures on object storage, by what stands behind the root."""
    files: dict[str, list[RemotePath]] = {}
    for path in root.rglob("*"):
        name, *rest = path.relative_to(root).parts
        if rest and path.suffix.lower() in SUFFIXES and not any(map(_hidden, (name, *rest))):
            files.setdefault(name, []).append(path)
    if len(files) < 2:
        found = f"only {quoted(files)}" if files else "no picture"
        msg = (
            f"'{root}' should hold pictures of two classes at least, such as daisy/1.jpg and roses/1.jpg. "
            f"It has {found}."
        )
        raise ValueError(msg)
    return files


def find_class_folder(source: str | os.PathLike[str], *, per_class: int | None = None) -> Path:
    """Return the folder whose subfolders are the classes: drawn, downloaded or extracted where it has to be.

    Parameters
    ----------
    source : str or path
        "drawn", "photos", a folder, or an archive. An only folder in it is looked into.
    per_class : int, optional
        Flowers to draw for each class.

    Raises
    ------
    ValueError
        There is no such source, or it is not arranged in one subfolder a class.
    """
    return _require_classes(_folder(source, per_class))


def list_class_files(root: Path) -> dict[str, list[Path]]:
    """Return each class's picture files, those in deeper folders included, without hidden files and folders.

    Links to files and folders are followed. Names of classes that some disks take for one give a warning.

    Raises
    ------
    ValueError
        A class has no picture.
    """
    files = {folder.name: _pictures(folder) for folder in _visible_folders(root)}
    _warn_of_one_name(root, files)
    return files


def find_equal_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Return groups of files that hold the same bytes.

    Sizes are compared first, then some bytes from the middle; only files that agree in both are read.
    """
    groups = [list(paths)]
    for mark in (_size, _middle, _digest):
        groups = [same for group in groups for same in _alike(group, mark) if len(same) > 1]
    return groups


def _alike(paths: Sequence[Path], mark: Callable[[Path], Any]) -> Iterable[list[Path]]:
    found: dict[Any, list[Path]] = {}
    for path in paths:
        with suppress(OSError):  # a file that cannot be read is told of when it is decoded
            found.setdefault(mark(path), []).append(path)
    found.pop(0, None)  # empty files are no pictures
    return found.values()


def _size(path: Path) -> int:
    return path.stat().st_size


def _middle(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        return file.read(COMPARED)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _warn_of_one_name(root: Path, classes: Iterable[str]) -> None:
    by_name: dict[str, list[str]] = {}
    for name in classes:
        by_name.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    for names in by_name.values():
        if len(names) > 1:
            msg = (
                f"Classes {quoted(names)} in {root} are told apart here, though their names differ in upper and lower "
                "case or in the coding of an accent only; many disks of Windows and macOS would take them for one. "
                "If they are one, put their pictures into one folder; otherwise rename one of them."
            )
            warnings.warn(msg, stacklevel=6)  # where `load` was called


def _pictures(folder: Path) -> list[Path]:
    files = []
    for parent, names in _visible_files(folder):
        files += [parent / name for name in names]
    pictures = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    if not pictures:
        others = sorted({path.suffix or path.name for path in files})
        found = f"files that end in {quoted(others)}" if others else "none"
        msg = (
            f"Class {quoted([folder.name])} has no pictures. Expected in {folder} are files that end in "
            f"{quoted(SUFFIXES, 'or')}; found: {found}. Add pictures, or take the folder out."
        )
        raise ValueError(msg)
    return pictures


def _visible_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder below one, links to folders included, with the names of its files."""
    walked = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        yield Path(parent), [name for name in names if not _hidden(name)]
        folders[:] = [
            name for name in sorted(folders) if not _hidden(name) and not _note_walked(Path(parent, name), walked)
        ]


def _note_walked(folder: Path, walked: set[str]) -> bool:
    """Say whether a link leads into a folder that was walked through; without that, a loop would have no end."""
    place = os.path.realpath(folder)
    before = place in walked
    walked.add(place)
    return before


def _folder(source: str | os.PathLike[str], per_class: int | None) -> Path:
    from tlkit.files import downloads

    home = downloads.home() / "images"
    if source == "drawn":
        from tlkit.images import drawing

        count = per_class or DRAWN_PER_CLASS
        return drawing.draw_flowers(home / f"drawn-{drawing.VERSION}-{count}", per_class=count)
    if source == "photos":
        return _extract(downloads.fetch(downloads.FLOWER_PHOTOS), home)
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        return path
    if path.is_file() and path.name.lower().endswith(ARCHIVES):
        return _extract(path, home)
    if _leads_nowhere(path):
        msg = f"{path} {_to_nothing(path)}. Mend the link, or give the folder itself."
    elif path.exists():
        msg = f"{path} is a file, but no archive of pictures: its name does not end in {quoted(ARCHIVES, 'or')}."
    else:
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        msg = (
            f"There is no source of images '{source}'. Expected is 'drawn', 'photos', a folder with one subfolder a "
            f"class, an archive ({quoted(ARCHIVES, 'or')}), or a table ({quoted(TABLES, 'or')})."
            f"{near_misses(path.name, ['drawn', 'photos', *beside])}"
        )
    raise ValueError(msg)


def _extract(archive: Path, home: Path) -> Path:
    from tlkit.files import archives

    mark = hashlib.sha256(os.fsencode(archive)).hexdigest()[:8]  # two archives of one name get two folders
    return archives.extract(archive, home / f"{archive.name.partition('.')[0]}-{mark}")


def _require_classes(root: Path) -> Path:
    for path in sorted(root.iterdir()):
        if not path.suffix and not _hidden(path.name) and _leads_nowhere(path):
            msg = f"Class {quoted([path.name])} in {root} {_to_nothing(path)}. Mend the link, or delete it."
            raise ValueError(msg)
    inside = _visible_folders(root)
    if len(inside) == 1 and _visible_folders(inside[0]):
        return _require_classes(inside[0])
    if len(inside) < 2:
        found = f"only {quoted([inside[0].name])}" if inside else "no subfolder"
        msg = (
            f"{root} should hold one subfolder for each class, two at least, with the pictures in them "
            f"(such as daisy/1.jpg and roses/1.jpg). It has {found}."
        )
        raise ValueError(msg)
    if {folder.name.lower() for folder in inside} <= {"train", "training", "test", "val", "valid", "validation"}:
        names = quoted(folder.name for folder in inside)
        msg = (
            f"{root} is split already: its subfolders {names} are no classes. "
            f"Load each of them with split=None: load({str(inside[0])!r}, split=None)."
        )
        raise ValueError(msg)
    return root


def _visible_folders(root: Path) -> list[Path]:
    folders = (path for path in root.iterdir() if path.is_dir() and not _hidden(path.name))
    return sorted(folders, key=lambda path: path.name)  # paths themselves sort differently on Windows


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _to_nothing(link: Path) -> str:
    return f"is a link to '{printable(os.readlink(link))}', which is not there"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # .ipynb_checkpoints is one of the dot names
