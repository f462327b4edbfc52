"""The command line in this process, and the stores that it makes."""

from __future__ import annotations

import json

import torch

from tlkit.commands import main
from tlkit.memory import counted

CLASSES = {"daisy": 5, "rose": 4, "tulip": 2}
ROWS, SHARD = sum(CLASSES.values()), 4
THREADS = counted(torch.get_num_threads(), "thread")
NETWORK = ("--backbone", "timm/test_resnet", "--weights", "none")


def run(capsys, *words):
    """Carry out a command in this process; return its exit code, and what it wrote to stdout and stderr."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


def contents(folder):
    """All that must not depend on how a store came to be: without the seconds that it took."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        record = json.loads(file.read_bytes()) if file.parent.name == "shards" and file.suffix == ".json" else None
        name = file.relative_to(folder).as_posix()
        found[name] = file.read_bytes() if record is None else record | {"seconds": None, "record_crc32": None}
    return found


def shard_file(folder, number, suffix="safetensors"):
    [file] = (folder / "shards").glob(f"{number:05d}-*.{suffix}")
    return file


def remove(folder, *numbers):
    for number in numbers:
        shard_file(folder, number, "json").unlink()


def flip(folder, number):
    file = shard_file(folder, number)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
