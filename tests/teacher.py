"""The two commands of a class, each in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import small_catalog

TOOL = [sys.executable, str(Path(small_catalog.__file__))]


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
