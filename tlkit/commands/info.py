"""``python -m tlkit info``: what a feature store holds."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from tlkit.commands.output import few, say, say_facts
from tlkit.errors import printable
from tlkit.features.shards import Shard, digest, read_record
from tlkit.features.spec import Layout
from tlkit.files.storage import RemotePath, place
from tlkit.memory import counted, readable_size

__all__ = ["facts", "finished_record", "run"]

DIGESTED = ("graph", "weights")  # entries of the key that are too long to read


def run(options: Namespace) -> int:
    """Say what a store holds, complete or not."""
    found = facts(place(options.store))
    if options.json:
        say(json.dumps(found, indent=1))
    else:
        say_facts(_in_words(found))
    return 0


def finished_record(folder: Path | RemotePath, shard: Shard) -> dict[str, Any] | None:
    """Return the record of a shard whose file has its size; nothing else of the file is looked at."""
    record = read_record(folder, shard)
    try:
        return record if record and shard.data(folder).stat().st_size == record["bytes"] else None
    except OSError:
        return None


def facts(folder: Path | RemotePath) -> dict[str, Any]:
    """Return what a store holds, as plain data.

    Raises
    ------
    FileNotFoundError
        When there is no store.
    StoreError
        When its `spec.json` is damaged, or of a newer version of tlkit.
    """
    layout = Layout.read(folder)
    records = {shard: finished_record(folder, shard) for shard in layout.shards}
    finished = {shard: record for shard, record in records.items() if record}
    counts = Counter(label for record in finished.values() for label in record["labels"])
    times = [shard.record(folder).stat().st_mtime for shard in finished]
    return {
        "path": str(folder),
        "complete": len(finished) == len(records),
        "rows": {"done": sum(len(shard.rows) for shard in finished), "total": layout.rows},
        "shards": {"done": len(finished), "total": len(records)},
        "classes": {name: counts[label] for label, name in enumerate(layout.classes)},
        "boundary": {name: {"shape": list(shape), "dtype": layout.dtype} for name, shape in layout.shapes.items()},
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "key_sha256": layout.key_digest,
        "key": {name: f"sha256 {digest(value)}" if name in DIGESTED else value for name, value in layout.key.items()},
        "engines": dict(Counter(name for record in finished.values() for name in record["engines"] or ["unknown"])),
        "seconds": round(math.fsum(record.get("seconds", 0) for record in finished.values()), 3),
        "written": [_time(min(times)), _time(max(times))] if times else [],
    }


def _in_words(found: dict[str, Any]) -> dict[str, Any]:
    rows, shards = found["rows"], found["shards"]
    classes = counted(len(found["classes"]), "class", "classes")
    so_far = "" if found["complete"] else ", in the rows that are done"
    words = {
        "store": found["path"],
        "state": "complete" if found["complete"] else "unfinished: featurize again with the same settings to go on",
        "rows": _share(rows),
        "shards": _share(shards),
        "classes": f"{classes}{so_far}: {few(f'{name} {count:,}' for name, count in found['classes'].items())}",
        "boundary": [
            f"{printable(name)} ({' x '.join(map(str, tensor['shape']))}), {tensor['dtype']}"
            for name, tensor in found["boundary"].items()
        ],
        "disk": readable_size(found["bytes"]),
    }
    if found["written"]:
        first, last = (time.replace("T", " ") for time in found["written"])
        by = few(f"{engine} ({counted(count, 'shard')})" for engine, count in found["engines"].items())
        words["written"] = f"{first} to {last}"
        words["computed"] = f"in {found['seconds']:,.1f} s by {by}"
    words["key"] = [
        f"sha256 {found['key_sha256']}",
        *(f"{printable(name)}: {_text(v)}" for name, v in found["key"].items()),
    ]
    return words


def _share(counts: dict[str, int]) -> str:
    done, total = counts["done"], counts["total"]
    return f"{total:,}" if done == total else f"{done:,} of {total:,}"


def _text(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), None)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
