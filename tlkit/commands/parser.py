"""What the commands are called with."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tlkit import __version__

__all__ = ["COMMANDS", "DTYPES", "ENGINES", "make_parser"]

COMMANDS = {
    "featurize": "run a network's frozen part over pictures, and keep what it says in a feature store",
    "verify": "read every byte of a feature store, and say what is wrong with it",
    "info": "say what a feature store holds, and how far it is",
    "fetch": "download photos and weights ahead of time, or say what there is to download",
    "serve": "give what was fetched to other machines on the same network",
    "doctor": "say what will work on this machine and what won't",
}
ENGINES = ("auto", "torch", "onnxruntime")  # those of tlkit.features.engines, which imports torch
DTYPES = ("float32", "float16", "bfloat16")

FEATURIZE = """\
The command may be stopped at any moment, and goes on where it was when it is run again. What is there and still right
is not computed again. Several processes may fill one store at once: in a job array, give each job its part of the
shards, --shards 1/8 to --shards 8/8. Part 2/8 takes the shards 1, 9, 17 and so on: shards are counted from 0."""


FETCH = """\
Without names it only says what there is, how large, and what is here. Each file is checked by its SHA-256. A download
that broke goes on where it was when the command is run again. Where TLKIT_MIRROR names a folder or the address of a
machine that runs `serve`, files come from there."""

SERVE = """\
Only photos and weights that tlkit knows are given away, after their SHA-256 was checked, and nothing can be written.
Whoever is on the network can read them. The line that others set is printed at the start. Ctrl-C ends it."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m tlkit``."""
    by_name = Path(sys.argv[0]).stem == "tlkit"  # installed as a command of its own
    parser = argparse.ArgumentParser(
        prog="tlkit" if by_name else "python -m tlkit",
        description="Transfer learning from the command line.",
        epilog="Exit codes: 0 fine, 1 a problem (described on stderr), 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tlkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    made = {
        name: commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
        for name, about in COMMANDS.items()
    }
    _add_featurize(made["featurize"])
    _add_fetch(made["fetch"])
    _add_serve(made["serve"])
    for name in ("verify", "info"):
        made[name].add_argument("store", metavar="STORE", help="folder of the feature store, or s3://...")
    for name in ("info", "doctor"):
        made[name].add_argument("--json", action="store_true", help="answer in JSON, for programs")
    return parser


def _add_featurize(parser: argparse.ArgumentParser) -> None:
    parser.epilog = FEATURIZE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "folder", metavar="FOLDER",
        help="pictures, one subfolder a class; or an archive or a table of them, 'drawn', 'photos'",
    )  # fmt: skip
    add("--out", metavar="STORE", required=True, help="folder of the feature store, or s3://...")
    add("--backbone", metavar="NAME", help="network of the zoo, such as vgg16 or timm/NAME (efficientnet_lite0)")
    add(
        "--boundary", metavar="VERTEX", action="append",
        help="last frozen vertex, such as fc2; may be repeated (the one before the network's head)",
    )  # fmt: skip
    add(
        "--weights", metavar="FILE", default="imagenet",
        help="imagenet, a .safetensors or .pth file, or none: random ones, the same each time (imagenet)",
    )  # fmt: skip
    add(
        "--batch-size",
        metavar="N",
        type=_count,
        help="pictures that run through it together (as many as take little memory)",
    )
    add("--dtype", choices=DTYPES, default=DTYPES[0], help="how the features are stored (float32)")
    add("--engine", choices=ENGINES, default=ENGINES[0], help="what runs the network (auto)")
    add("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or mps; auto is a GPU where there is one")
    add("--shards", metavar="i/N", type=_part, default=(1, 1), help="compute the i-th of N parts of the store (1/1)")
    add("--on-bad", choices=("raise", "skip"), default="raise", help="stop at broken pictures or omit them (raise)")


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.epilog = FETCH
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", metavar="NAME", nargs="*", help="photos, vgg16, or another of torchvision's networks")
    parser.add_argument("--all", action="store_true", help="all that the notebooks can use: photos and vgg16")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.epilog = SERVE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--host", metavar="ADDRESS", default="", help="address to listen on, 127.0.0.1 for this machine only (all)"
    )
    parser.add_argument("--port", metavar="N", type=_port, default=8765, help="port to listen on, 0 for any (8765)")


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) > 65535:
        msg = f"'{text}' is no port: 0 to 65535."
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        msg = f"'{text}' is no number of pictures: 1 at least."
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _part(text: str) -> tuple[int, int]:
    """Read "2/8"."""
    found = re.fullmatch("([0-9]+)/([0-9]+)", text)
    part, parts = map(int, found.groups()) if found else (0, 0)
    if not 1 <= part <= parts:
        msg = f"'{text}' is no part of a whole: the second of eight is 2/8, and the first 1/8."
        raise argparse.ArgumentTypeError(msg)
    return part, parts
