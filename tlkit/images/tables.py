"""Lists of pictures and their classes: a CSV or Parquet table, or pairs in memory."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tlkit.errors import quoted
from tlkit.files.storage import ADDRESS, RemotePath, on_disk, place

__all__ = ["TABLES", "group_by_class", "read_table"]

TABLES = (".csv", ".parquet")
COLUMNS = ("path", "label")

Files = dict[str, list[Path | RemotePath]]


def read_table(table: Path | RemotePath) -> Files:
    """Return each class's picture files, as the columns `path` and `label` of a table say.

    Paths may be relative to the table's folder, or addresses.

    Raises
    ------
    FileNotFoundError
        When there is no such table.
    ImportError
        When it is a Parquet table, and pyarrow is missing.
    ValueError
        When it lacks a column, a path or a label, or has a picture twice.
    """
    read = _read_parquet if table.suffix.lower() == ".parquet" else _read_csv
    return group_by_class(read(table), table.parent, str(table))


def group_by_class(pairs: Iterable[Sequence[Any]], folder: Path | RemotePath, source: str) -> Files:
    """Return each class's picture files from pairs of a path and a class.

    Parameters
    ----------
    pairs : iterable of (path, class)
    folder : path
        What paths are relative to.
    source : str
        What messages call the list.
    """
    found: Files = {}
    rows: dict[Any, int] = {}
    for number, pair in enumerate(pairs, 1):
        if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
            msg = f"Row {number} of {source} is {pair!r}. Expected is a path and a class, such as ('1.jpg', 'daisy')."
            raise ValueError(msg)
        lacking = [name for name, value in zip(COLUMNS, pair, strict=True) if value is None or str(value) == ""]
        if lacking:
            msg = f"Row {number} of {source} has no {lacking[0]}. Add it, or take the row out."
            raise ValueError(msg)
        path = _below(folder, pair[0])
        if path in rows:
            msg = f"{source} has the picture '{path}' twice, in the rows {rows[path]} and {number}. Take one out."
            raise ValueError(msg)
        rows[path] = number
        found.setdefault(str(pair[1]), []).append(path)
    if len(found) < 2:
        has = f"only '{next(iter(found))}'" if found else "no row"
        msg = f"{source} should have pictures of two classes at least. It has {has}."
        raise ValueError(msg)
    return {name: sorted(found[name]) for name in sorted(found)}


def _below(folder: Path | RemotePath, path: Any) -> Path | RemotePath:
    if isinstance(path, RemotePath) or (isinstance(path, str) and ADDRESS.match(path)):
        return place(path)
    if isinstance(folder, RemotePath) and not os.path.isabs(path):
        return folder / Path(path).as_posix()
    return folder / Path(path).expanduser()


def _read_csv(table: Path | RemotePath) -> Iterable[tuple[str, str]]:
    try:
        text = io.StringIO(table.read_bytes().decode("utf-8-sig"), newline="")  # spreadsheets begin with a mark
    except UnicodeDecodeError as error:
        msg = f"'{table}' is no text in UTF-8: {error}. Save it as CSV with that encoding."
        raise ValueError(msg) from error
    reader = csv.DictReader(text)
    _require_columns(table, reader.fieldnames or ())
    return [(row["path"], row["label"]) for row in reader]


def _read_parquet(table: Path | RemotePath) -> Iterable[tuple[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        msg = f"'{table}' needs pyarrow, which is not installed here. Install it with: pip install 'tlkit[cloud]'"
        raise ImportError(msg) from error
    with on_disk(table).open("rb") as file:
        content = parquet.ParquetFile(file)
        _require_columns(table, content.schema_arrow.names)
        columns = content.read(list(COLUMNS))
    return list(zip(*(columns[name].to_pylist() for name in COLUMNS), strict=True))


def _require_columns(table: Path | RemotePath, names: Sequence[str]) -> None:
    for column in COLUMNS:
        if column not in names:
            has = f"the columns {quoted(names)}" if names else "no columns"
            msg = f"'{table}' has no column '{column}', but {has}. Expected are 'path' and 'label'."
            raise ValueError(msg)
