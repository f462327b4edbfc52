"""Lists of pictures: tables in CSV and Parquet, pairs, and folders on object storage."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest
import torch
from PIL import Image

import tlkit as tl
from tlkit.files.storage import place

CLASSES = ("daisy", "roses")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight pictures in one folder, each with another gray."""
    (tmp_path / "photos").mkdir()
    for number in range(8):
        Image.new("RGB", (40, 36), (30 * number, 10, 10)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def pairs(start: str = "") -> list[tuple[str, str]]:
    return [(f"{start}{number}.png", CLASSES[number % 2]) for number in range(8)]


def write_csv(table: Path, rows) -> Path:
    lines = ["note,label,path", *(f'"a, b",{label},{path}' for path, label in rows)]
    table.write_bytes("\n".join(lines).encode("utf-8-sig"))
    return table


def write_parquet(table: Path, rows) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    paths, labels = zip(*rows, strict=True)
    parquet.write_table(pyarrow.table({"label": pyarrow.array(labels).dictionary_encode(), "path": paths}), table)
    return table


def read(source) -> tl.images.ImageSet:
    return tl.images.load(source, split=None, size=32)


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_table_gives_what_the_pairs_give_and_its_paths_begin_beside_it(photos, write, monkeypatch):
    table = write(photos / f"photos.{write.__name__[6:]}", pairs())
    from_table = read(table)
    monkeypatch.chdir(photos)
    from_pairs = read(pairs())
    assert from_table.classes == from_pairs.classes == CLASSES
    assert from_table.paths == from_pairs.paths
    assert from_table.labels.equal(from_pairs.labels)
    assert from_table.pixels().equal(from_pairs.pixels())
    for path, label in zip(from_table.paths, from_table.labels.tolist(), strict=True):
        assert int(path.stem) % 2 == label


def test_paths_may_be_absolute_and_addresses(photos, tmp_path):
    table = write_csv(tmp_path / "list.csv", pairs(f"{photos.as_uri()}/"))
    assert set(read(table).paths) == {photos / f"{number}.png" for number in range(8)}
    assert set(read(pairs(f"{photos}/")).paths) == set(read(table).paths)


def test_a_split_has_both_classes(photos):
    split = tl.images.load(pairs(f"{photos}/"), split=0.75, size=32)
    assert (len(split.train), len(split.test)) == (6, 2)
    assert sorted(split.test.labels.tolist()) == [0, 1]


def test_labels_that_are_numbers_become_names(photos):
    assert read([(photos / f"{k}.png", k % 2) for k in range(8)]).classes == ("0", "1")


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([("1.png", "daisy"), ("1.png", "roses")], r"has the picture '.*1\.png' twice, in the rows 1 and 2"),
        ([("1.png", "daisy"), ("2.png", "")], r"Row 2 of the list of pictures has no label"),
        ([("1.png", "daisy"), "2.png"], r"Row 2 of the list of pictures is '2.png'\. Expected is a path and a class"),
        ([("1.png", "daisy")], r"two classes at least\. It has only 'daisy'"),
        ([], r"It has no row"),
    ],
)
def test_a_list_that_cannot_be_says_where(rows, text):
    with pytest.raises(ValueError, match=text):
        tl.images.load(rows)


def test_a_table_without_the_columns_says_which_there_are(tmp_path):
    (tmp_path / "list.csv").write_text("file,label\n1.png,daisy\n")
    with pytest.raises(ValueError, match=r"has no column 'path', but the columns 'file' and 'label'"):
        tl.images.load(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_bytes("path,label\ngröße.png,daisy\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"is no text in UTF-8.*Save it as CSV with that encoding"):
        tl.images.load(tmp_path / "list.csv")
    with pytest.raises(FileNotFoundError):
        tl.images.load(tmp_path / "none.csv")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow.*pip install 'tlkit\[cloud\]'"):
        tl.images.load(tmp_path / "list.parquet")


def test_broken_and_missing_pictures_are_listed(photos):
    (photos / "3.png").write_bytes(b"")
    with pytest.raises(tl.images.BadImagesError, match=r"2 of 9 pictures.*(?s:.*)3\.png: the file is empty") as caught:
        read([*pairs(f"{photos}/"), (photos / "9.png", "roses")]).pixels()
    assert "9.png: No such file" in str(caught.value)


@pytest.mark.parametrize("kind", ["memory", pytest.param("s3", marks=pytest.mark.s3)])
def test_pictures_on_object_storage_are_those_of_the_disk(kind, photos, tmp_path, monkeypatch, request):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    address = f"memory://{uuid.uuid4().hex}" if kind == "memory" else request.getfixturevalue("s3").bucket()
    for path, label in pairs():
        (place(address) / "photos" / label / path).write_bytes((photos / path).read_bytes())
    table = write_csv(tmp_path / "list.csv", [(f"photos/{label}/{path}", label) for path, label in pairs()])
    (place(address) / "list.csv").write_bytes(table.read_bytes())
    folder, listed = read(f"{address}/photos"), read(f"{address}/list.csv")
    local = read(pairs(f"{photos}/"))
    expected = {path.stem: pixels for path, pixels in zip(local.paths, local.pixels(), strict=True)}
    for images in (folder, listed):
        assert images.classes == CLASSES
        for path, pixels in zip(images.paths, images.pixels(), strict=True):
            assert torch.equal(pixels, expected[path.stem])
    (place(address) / "photos" / "roses" / "1.png").write_bytes(b"no picture")
    with pytest.raises(tl.images.BadImagesError, match=rf"1 of 8 pictures in {address}/photos(?s:.*)roses/1\.png: no"):
        read(f"{address}/photos").pixels()
    with pytest.raises(ValueError, match="should hold pictures of two classes"):
        read(f"{address}/photos/roses")
