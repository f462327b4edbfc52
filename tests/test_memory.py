import pytest

from tlkit import memory


def test_there_is_memory():
    assert memory.available_memory() > 10**7


def test_a_container_leaves_less_than_its_machine(tmp_path, monkeypatch):
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal: 16000 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr(memory, "MEMORY_INFO", machine)
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path)
    assert memory.available_memory() == 8000 * 1024

    (tmp_path / "memory.max").write_text("4000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 2500000\ninactive_file 500000\n")
    assert memory.available_memory() == 1_500_000

    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() == 8000 * 1024


def test_an_older_container_is_understood(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path)
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("2000000\n")
    (folder / "memory.usage_in_bytes").write_text("1500000\n")
    (folder / "memory.stat").write_text("total_inactive_file 100000\n")
    assert memory.available_memory() == 600_000


def test_a_machine_that_tells_nothing_still_has_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMORY_INFO", tmp_path / "absent")
    assert memory.available_memory() > 10**7


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (18_800_000, "18.8 MB"),
        (5.9e9, "5.9 GB"),
        (8.2e12, "8.2 TB"),
        (3e18, "3000 PB"),
    ],
)
def test_sizes_are_readable(size, text):
    assert memory.readable_size(size) == text


def test_things_are_counted():
    assert memory.counted(1, "class", "classes") == "1 class"
    assert memory.counted(3670, "image") == "3,670 images"
    assert memory.counted(0, "class", "classes") == "0 classes"


def test_giving_memory_back_leaves_what_is_in_use(monkeypatch):
    kept = bytearray(b"kept")
    memory.give_back()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())  # a C library that has no such function
    memory.give_back()
    assert kept == b"kept"
