import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from command_line import run

import tlkit as tl
from tlkit.commands import info, main, parser


def test_alone_it_prints_its_help_and_with_version_its_version(capsys):
    code, said, complaint = run(capsys)
    assert (code, complaint) == (0, "")
    assert said.startswith("usage: python -m tlkit")
    assert all(f"    {name}" in said for name in parser.COMMANDS)
    assert run(capsys, "--version") == (0, f"tlkit {tl.__version__}\n", "")


def test_a_mistake_of_ours_keeps_its_traceback(undivided, monkeypatch):
    monkeypatch.setattr(info, "facts", lambda folder: {}["absent"])
    with pytest.raises(KeyError):
        main(["info", str(undivided)])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "/x"), "No space left on device: '/x'"),
        (OSError(13, "Permission denied"), "Permission denied"),
        (MemoryError(), "There is not enough memory. A smaller --batch-size takes less."),
        (torch.OutOfMemoryError("CUDA out of memory ..."), "There is not enough memory. A smaller --batch-size"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_told_without_numbers_and_tracebacks(error, sentence, undivided, capsys, monkeypatch):
    def fail(folder):
        raise error

    monkeypatch.setattr(info, "facts", fail)
    code, said, complaint = run(capsys, "info", undivided)
    assert (code, said) == (1, "")
    assert complaint.startswith(f"python -m tlkit info: {sentence}")


def test_warnings_are_lines_without_code(undivided, capsys, monkeypatch):
    def warn(folder):
        import warnings

        warnings.warn("slower than it could be", stacklevel=1)
        return facts(folder)

    facts = info.facts
    monkeypatch.setattr(info, "facts", warn)
    assert run(capsys, "info", undivided)[2] == "Warning: slower than it could be\n"


@pytest.mark.slow
def test_a_reader_that_has_gone_is_no_error(undivided):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-m", "tlkit", "info", undivided], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_help_and_mistakes_are_answered_without_loading_torch():
    code = "import sys; from tlkit.commands import main; main([]); assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


AT_IMPORT = """
import importlib.abc, runpy, signal, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{}":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.{})
sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["info", "absent"]
runpy.run_module("tlkit", run_name="__main__")
"""


@pytest.mark.parametrize(
    "module", ["tlkit.commands", "argparse", "tlkit.commands.parser", "tqdm", "tlkit.commands.info", "numpy", "torch"]
)
def test_ctrl_c_amid_an_import_ends_without_a_traceback(module):
    code = AT_IMPORT.format(module, "default_int_handler")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.slow
def test_ctrl_c_that_is_ignored_stays_so():
    ended = subprocess.run(
        [sys.executable, "-c", AT_IMPORT.format("argparse", "SIG_IGN")], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "There is no feature store in 'absent'." in ended.stderr


def test_nothing_is_loaded_before_ctrl_c_is_heeded():
    code = (
        "import importlib, sys; before = set(sys.modules); import tlkit; assert set(sys.modules) - before == {'tlkit'}"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("number", "words"), [(signal.SIGINT, "Stopped."), (signal.SIGTERM, "Stopped by SIGTERM.")])
def test_a_signal_ends_a_command_with_a_sentence(number, words, undivided, capsys, monkeypatch):
    before = signal.getsignal(number)
    monkeypatch.setattr(info, "facts", lambda folder: signal.raise_signal(number))
    code, said, complaint = run(capsys, "info", undivided)
    assert (code, said) == (128 + number, "")
    assert complaint == f"\n{words} Run the same command again to go on.\n"
    assert signal.getsignal(number) == before


def test_a_command_may_run_in_a_thread(undivided, capsys):
    with ThreadPoolExecutor() as pool:
        assert pool.submit(main, ["verify", str(undivided)]).result() == 0
