from __future__ import annotations

import os
import stat

import pytest

from tlkit.files.publishing import publish


def test_a_reader_sees_the_old_file_or_the_whole_new_one(tmp_path):
    path = tmp_path / "deep" / "file"
    for content in ("old", "new"):
        with publish(path, "example") as temporary:
            temporary.write_text(content[:1])
            assert not path.exists() if content == "old" else path.read_text() == "old"
            temporary.write_text(content)
        assert path.read_text() == content
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with publish(path, "example") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_refused_with_the_name_of_a_file_in_it(tmp_path):
    sentence = r"is a folder\. Give the name of a file in it, such as .*network\.tlk"
    with pytest.raises(IsADirectoryError, match=sentence), publish(tmp_path, "network.tlk"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_published_file_has_the_mode_of_any_new_file(tmp_path):
    with publish(tmp_path / "file", "example") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        assert not (tmp_path / "file").exists()
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
