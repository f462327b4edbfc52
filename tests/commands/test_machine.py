from importlib.metadata import version

from tlkit import memory
from tlkit.commands import machine


def test_doctor_sees_the_limits_of_an_older_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path)
    for folder in ("cpu", "memory"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("25000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # none
    assert machine.cores()["usable"] == 0.25
    assert machine.memory_facts()["container_limit"] is None
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert machine.cores()["usable"] >= 1


def test_doctor_does_not_tell_passwords(monkeypatch):
    monkeypatch.setenv("TLKIT_MIRROR", "https://me:secret@school.example/files")
    assert machine.settings()["TLKIT_MIRROR"] == "https://...@school.example/files"


def test_packages_that_are_absent_or_too_old_are_missing(monkeypatch):
    lines = ["numpy>=1", "pillow>=99", "nowhere>=2; extra == 'notebooks'", "other; extra == 'test'", "tlkit[notebooks]"]
    monkeypatch.setattr(machine, "requires", lambda name: lines)
    old = {"pillow>=99": version("pillow")}
    assert machine.missing() == old
    assert machine.missing("notebooks") == old | {"nowhere>=2": None}
