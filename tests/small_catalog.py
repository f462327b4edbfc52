"""The command line with a few small files in place of the large ones: ``python tests/small_catalog.py fetch --all``.

``TLKIT_TEST_URL`` is the address that stands for the internet. The files are the same in every process.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

from tlkit.commands import catalog, main
from tlkit.files.downloads import Remote

SIZES = {"photos": 700_000, "vgg16": 1_500_000, "resnet18": 300_000}
TOOL = [sys.executable, __file__]
CONTENTS = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}


def remotes(url: str) -> dict[str, Remote]:
    """Return the files by the names of the catalog; the last is no lesson's, and its hash and size are not known."""
    found = {}
    for name, content in CONTENTS.items():
        digest = hashlib.sha256(content).hexdigest()
        file, folder = ("photos.tgz", "images") if name == "photos" else (f"{name}-{digest[:8]}.pth", "weights")
        lesson = name != "resnet18"
        exact = {"sha256": digest, "size": len(content)} if lesson else {"sha256": digest[:8], "about": 310_000}
        found[name] = Remote(file, (f"{url}/{file}",), folder=folder, **exact)
    return found


def use(url: str, setting=setattr) -> dict[str, Remote]:
    """Put the small files into the catalog."""
    files = remotes(url)
    setting(catalog, "LESSONS", {name: files[name] for name in ("photos", "vgg16")})
    setting(catalog, "files", lambda: files)
    return files


class Teacher:
    """``serve`` in another process, with a folder of its own; `stop` presses Ctrl-C and returns its exit code."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        environment = {**os.environ, "TLKIT_HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        command = [*TOOL, "serve", "--host", "127.0.0.1", "--port", "0"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said = ""
        self.read_to("Ctrl-C")
        self.url = re.search(r"^Linux, macOS +export TLKIT_MIRROR=(\S+)$", self.said, re.MULTILINE)[1]

    def read_to(self, words: str) -> str:
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return line
        raise AssertionError(self.said)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(timeout=60)
        self.said += self.process.stdout.read()
        return status


def student(folder: Path, mirror: str, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TLKIT_HOME": str(folder), "TLKIT_MIRROR": mirror}
    return subprocess.run([*TOOL, *words], env=environment, capture_output=True, text=True)


if __name__ == "__main__":
    use(os.environ["TLKIT_TEST_URL"])
    sys.argv[0] = "tlkit"
    sys.exit(main())
