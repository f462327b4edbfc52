"""Where pictures come from: drawings, the flower photos, folders and archives; one subfolder is one class."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tlkit.decoding import SUFFIXES
from tlkit.errors import near_misses, quoted

__all__ = ["class_files", "class_folder"]

ARCHIVES = (".tgz", ".tar.gz", ".tar", ".zip")
DRAWN_PER_CLASS = 100


def class_folder(source: str | os.PathLike[str], *, per_class: int | None = None) -> Path:
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
    return _with_classes(_folder(source, per_class))


def class_files(root: Path) -> dict[str, list[Path]]:
    """Return each class's picture files, those in deeper folders included, without hidden files and folders.

    Raises
    ------
    ValueError
        A class has no picture.
    """
    return {folder.name: _pictures(folder) for folder in _visible_folders(root)}


def _pictures(folder: Path) -> list[Path]:
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        files += [Path(parent, name) for name in names if not _hidden(name)]
    pictures = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    if not pictures:
        others = sorted({path.suffix or path.name for path in files})
        found = f"files that end in {quoted(others)}" if others else "none"
        msg = (
            f"Class '{folder.name}' has no pictures. Expected in {folder} are files that end in "
            f"{quoted(SUFFIXES, 'or')}; found: {found}. Add pictures, or take the folder out."
        )
        raise ValueError(msg)
    return pictures


def _folder(source: str | os.PathLike[str], per_class: int | None) -> Path:
    from tlkit import downloads

    home = downloads.home() / "images"
    if source == "drawn":
        from tlkit import drawing

        count = per_class or DRAWN_PER_CLASS
        return drawing.draw_flowers(home / f"drawn-{drawing.VERSION}-{count}", per_class=count)
    if source == "photos":
        return _extracted(downloads.fetch(downloads.FLOWER_PHOTOS), home)
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        return path
    if path.is_file() and path.name.lower().endswith(ARCHIVES):
        return _extracted(path, home)
    if path.exists():
        msg = f"{path} is a file, but no archive of pictures: its name does not end in {quoted(ARCHIVES, 'or')}."
    else:
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        msg = (
            f"There is no source of images '{source}'. Expected is 'drawn', 'photos', a folder with one subfolder a "
            f"class, or an archive ({quoted(ARCHIVES, 'or')}).{near_misses(path.name, ['drawn', 'photos', *beside])}"
        )
    raise ValueError(msg)


def _extracted(archive: Path, home: Path) -> Path:
    from tlkit import archives

    mark = hashlib.sha256(os.fsencode(archive)).hexdigest()[:8]  # two archives of one name get two folders
    return archives.extract(archive, home / f"{archive.name.partition('.')[0]}-{mark}")


def _with_classes(root: Path) -> Path:
    inside = _visible_folders(root)
    if len(inside) == 1 and _visible_folders(inside[0]):
        return _with_classes(inside[0])
    if len(inside) < 2:
        found = f"only '{inside[0].name}'" if inside else "no subfolder"
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


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # .ipynb_checkpoints is one of the dot names
