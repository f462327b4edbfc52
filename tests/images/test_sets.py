from __future__ import annotations

import io
import os
import random
import re
import tarfile
import threading
import time
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tlkit.files import downloads
from tlkit.images import decoding, drawing, sets
from tlkit.images.decoding import BadImagesError, Geometry, decode
from tlkit.images.preprocessing import Preprocessing


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def scene(seed=0, width=60, height=40, channels=3):
    """A smooth picture, so that JPEG and resizing change it little."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Three classes of 6, 7 and 9 pictures, and what else lies about in such folders."""
    root = tmp_path / "flores silvestres 花"
    for kind, (name, count) in enumerate({"daisy": 6, "rosé": 7, "tulip": 9}.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            scene(10 * kind + number).save(root / name / f"{number}.{'png' if number % 2 else 'JPG'}")
    (root / "LICENSE.txt").write_text("free")
    return root


def cells(table):
    return [re.findall("<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")]


def names(pictures):
    return [f"{path.parent.name}/{path.name}" for path in pictures.paths]


# Splits


def test_training_and_test_set_share_no_picture_and_hold_every_class_equally_often(folder):
    flowers = sets.load(folder, split=0.7)
    assert flowers.classes == flowers.test.classes == ("daisy", "rosé", "tulip")
    assert not set(flowers.train.paths) & set(flowers.test.paths)
    assert torch.bincount(flowers.train.labels).tolist() == [4, 4, 4]
    assert torch.bincount(flowers.test.labels).tolist() == [2, 2, 2]


def test_labels_are_the_places_of_the_folders_in_classes(folder):
    for pictures in (sets.load(folder).train, sets.load(folder, split=None)):
        assert [pictures.classes[label] for label in pictures.labels] == [path.parent.name for path in pictures.paths]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_no_class_is_missing_on_either_side_of_an_extreme_split(folder, share):
    flowers = sets.load(folder, split=share)
    for part in (flowers.train, flowers.test):
        assert len(set(torch.bincount(part.labels).tolist())) == 1
        assert set(part.labels.tolist()) == {0, 1, 2}


def test_same_seed_same_split_and_another_seed_another_one(folder):
    first, again, other = (sets.load(folder, seed=seed).train for seed in (1, 1, 2))
    assert first.paths == again.paths
    assert set(first.paths) != set(other.paths)


def test_the_split_is_the_same_on_every_machine(folder):
    assert names(sets.load(folder, per_class=2).train) == ["daisy/1.png", "rosé/2.JPG", "tulip/5.png"]


def test_the_split_does_not_depend_on_where_the_folder_lies(folder):
    before = names(sets.load(folder).train)
    assert names(sets.load(folder.rename(folder.with_name("moved"))).train) == before


def test_a_new_picture_leaves_the_others_of_its_class_in_their_order(folder):
    def tulips():
        return [name for name in names(sets.load(folder, split=None)) if name.startswith("tulip")]

    before = tulips()
    scene().save(folder / "tulip" / "new.png")
    after = tulips()
    after.remove("tulip/new.png")
    assert after == before


def test_classes_alternate_so_that_every_slice_is_balanced(folder):
    assert sets.load(folder).train.labels.tolist() == [0, 1, 2] * 5


def test_without_a_split_every_picture_is_there_once(folder):
    pictures = sets.load(folder, split=None)
    assert len(pictures) == len(set(pictures.paths)) == 22
    assert torch.bincount(pictures.labels).tolist() == [6, 7, 9]


def test_per_class_takes_the_first_of_the_same_order(folder):
    everything, few = (sets.load(folder, split=None, per_class=n) for n in (None, 3))
    assert torch.bincount(few.labels).tolist() == [3, 3, 3]
    assert few.paths == everything.paths[:9]


def test_files_that_are_no_pictures_of_a_class_change_nothing(folder):
    before = sets.load(folder).train.paths
    for junk in (".DS_Store", "daisy/._0.jpg", "daisy/Thumbs.db", "daisy/.ipynb_checkpoints/0.png", "__MACOSX/a/1.png"):
        (folder / junk).parent.mkdir(parents=True, exist_ok=True)
        (folder / junk).write_bytes(b"junk")
    assert sets.load(folder).train.paths == before


def test_pictures_in_deeper_folders_belong_to_the_class_on_top(folder):
    (folder / "daisy" / "close" / "up").mkdir(parents=True)
    scene().save(folder / "daisy" / "close" / "up" / "x.webp")
    pictures = sets.load(folder, split=None)
    assert len(pictures) == 23
    assert pictures.classes == ("daisy", "rosé", "tulip")


# Sources


def test_an_only_folder_on_top_is_looked_into(folder, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    before = names(sets.load(folder).train)
    folder.rename(outer / "inner")
    assert names(sets.load(outer).train) == before


@pytest.mark.parametrize("suffix", [".tgz", ".tar.gz", ".zip"])
def test_an_archive_gives_what_its_folder_gives_and_is_extracted_once(folder, tmp_path, suffix, home):
    archive = tmp_path / f"flowers{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.rglob("*"):
                file.write(path, Path("top", path.relative_to(folder)))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, "top")
    first, again = sets.load(str(archive)), sets.load(archive)
    assert names(first.train) == names(sets.load(folder).train)
    assert first.train.paths == again.train.paths
    assert home in first.train.paths[0].parents


def test_photos_are_fetched_then_extracted(folder, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "flower_photos.tgz", "w:gz") as file:
        file.add(folder, "flower_photos")
    asked = []
    monkeypatch.setattr(downloads, "fetch", lambda remote: asked.append(remote) or tmp_path / "flower_photos.tgz")
    assert names(sets.load("photos").test) == names(sets.load(folder).test)
    assert asked == [downloads.FLOWER_PHOTOS]


@pytest.mark.slow
def test_drawn_flowers_are_drawn_once_and_have_the_kinds_as_classes(home):
    first, again = (sets.load("drawn", split=0.5, per_class=2) for _ in range(2))
    assert first.classes == drawing.KINDS
    assert len(first.train) == len(first.test) == 5
    assert home in first.train.paths[0].parents
    assert first.train.paths == again.train.paths


def test_an_unknown_source_names_the_known_ones_and_near_misses(folder):
    with pytest.raises(ValueError, match=r"no source of images 'drawm'.*'photos', a folder.*Did you mean 'drawn'"):
        sets.load("drawm")
    with pytest.raises(ValueError, match="Did you mean 'flores silvestres 花'"):
        sets.load(folder.with_name("flores silvestre 花"))
    with pytest.raises(ValueError, match=r"LICENSE.txt is a file, but no archive.*'\.tar' or '\.zip'"):
        sets.load(folder / "LICENSE.txt")


def test_a_folder_that_is_not_arranged_in_classes_is_explained(folder):
    with pytest.raises(ValueError, match=r"one subfolder for each class.*It has no subfolder\."):
        sets.load(folder / "daisy")
    (folder / "daisy").rename(folder / "tulip" / "inside")
    (folder / "rosé").rename(folder.with_name("away"))
    (folder / "tulip" / "inside").rename(folder / "tulip" / ".hidden")
    with pytest.raises(ValueError, match=r"two at least.*It has only 'tulip'\."):
        sets.load(folder, split=None)


def test_a_folder_that_is_split_already_is_not_taken_for_classes(folder, tmp_path):
    for part in ("train", "Val"):
        (tmp_path / "both" / part).mkdir(parents=True)
    folder.rename(tmp_path / "both" / "train" / "flowers")
    with pytest.raises(ValueError, match=r"split already: its subfolders 'Val' and 'train' are no classes.*split=None"):
        sets.load(tmp_path / "both")


def test_a_class_without_pictures_and_a_class_of_one_are_named(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Class 'empty' has no pictures.*found: none"):
        sets.load(folder)
    (folder / "empty" / "phone.HEIC").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"files that end in '\.HEIC'"):
        sets.load(folder)
    scene().save(folder / "empty" / "0.png")
    with pytest.raises(ValueError, match=r"Class 'empty' in .* has one usable picture, and a split needs two"):
        sets.load(folder)
    assert len(sets.load(folder, split=None)) == 23


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": 80}, r"split=80 is no share.*For 80 percent write split=0\.8"),
        ({"split": 1.0}, r"split=1\.0 is no share"),
        ({"per_class": 1}, "per_class=1 is too few"),
        ({"on_bad": "ignore"}, "on_bad='ignore' is unknown. Expected is 'raise' or 'skip'"),
        ({"size": 0}, "crop of 0 pixels"),
        ({"size": Preprocessing(interpolation="bilinea")}, "Did you mean 'bilinear'"),
    ],
)
def test_options_out_of_range_are_explained(folder, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        sets.load(folder, **options)


def test_a_size_of_another_type_is_explained(folder):
    with pytest.raises(TypeError, match=r"size=\(224, 224\) is neither a number of pixels nor"):
        sets.load(folder, size=(224, 224))


@pytest.mark.parametrize("names", [("Rose", "rose"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "straße")])
def test_classes_that_some_disks_take_for_one_are_two_with_a_warning(tmp_path, names):
    for number, name in enumerate(names):
        (tmp_path / "kinds" / name).mkdir(parents=True)
        scene(number).save(tmp_path / "kinds" / name / "1.png")
    if len(list((tmp_path / "kinds").iterdir())) == 1:
        pytest.skip("this disk takes the two names for one")
    with pytest.warns(UserWarning, match=r"Classes '.*' and '.*' in .* are told apart here.*rename one") as caught:
        pictures = sets.load(tmp_path / "kinds", split=None)
    assert pictures.classes == tuple(sorted(names))
    assert caught[0].filename == __file__


# Links

needs_links = pytest.mark.skipif(os.name != "posix", reason="making a link takes a privilege on Windows")


@needs_links
def test_links_to_folders_and_files_are_followed_and_loops_end(folder, tmp_path):
    away = folder / "tulip"
    away.rename(tmp_path / "elsewhere")
    away.symlink_to(tmp_path / "elsewhere")
    more = tmp_path / "more"
    more.mkdir()
    scene(7).save(more / "far.png")
    (folder / "daisy" / "linked").symlink_to(more)
    (folder / "daisy" / "again").symlink_to(more)
    (folder / "daisy" / "loop").symlink_to(folder / "daisy")
    (folder / "rosé" / "file.png").symlink_to(folder / "rosé" / "1.png")
    pictures = sets.load(folder, split=None)
    assert torch.bincount(pictures.labels).tolist() == [7, 8, 9]
    assert pictures.pixels().shape[0] == 24


@needs_links
def test_a_link_that_leads_nowhere_is_named_with_where_it_leads(folder, tmp_path):
    (folder / "daisy" / "link.png").symlink_to("nowhere.png")
    (folder / "daisy" / "loop.png").symlink_to("loop.png")
    for sentence in (
        r"daisy.link\.png: it is a link to 'nowhere\.png': No such file",
        r"daisy.loop\.png: it is a link to 'loop\.png': Too many levels",
    ):
        with pytest.raises(BadImagesError, match=sentence):
            sets.load(folder, split=None).pixels()
    (folder / "gone").symlink_to(tmp_path / "moved away")
    with pytest.raises(ValueError, match=r"Class 'gone' in .* is a link to '.*moved away', which is not there\. Mend"):
        sets.load(folder)
    (tmp_path / "photos").symlink_to(tmp_path / "moved away")
    with pytest.raises(ValueError, match=r"photos is a link to '.*moved away', which is not there\. Mend the link"):
        sets.load(tmp_path / "photos")


# Copies


def copy(folder, source, target):
    (folder / target).write_bytes((folder / source).read_bytes())


def warnings_of(folder, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sets.load(folder, **options)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_different_pictures_give_no_warning_even_when_sizes_and_parts_agree(folder):
    content = bytearray(range(256)) * 64
    for number, place in enumerate((0, len(content) // 2, len(content) - 1)):
        content[place] ^= 255
        (folder / "daisy" / f"same size {number}.bmp").write_bytes(content)
    for split in (0.8, None):
        assert warnings_of(folder, split=split) == []


def test_a_picture_in_two_classes_gives_a_warning_that_names_both(folder):
    copy(folder, "daisy/1.png", "tulip/copy.png")
    for split in (0.5, None):
        [text] = warnings_of(folder, split=split)
        assert text == (
            "1 picture is in two classes: daisy/1.png = tulip/copy.png. One of the labels is wrong, and training "
            "cannot satisfy both. Keep one copy of each."
        )


def test_a_picture_in_training_and_test_set_gives_a_warning(folder):
    flowers = sets.load(folder)
    trained, tested = flowers.train.paths[0], flowers.test.paths[0]
    assert trained.parent == tested.parent
    copy(folder, trained, tested)
    [text] = warnings_of(folder)
    assert re.match(r"1 picture is in the training and the test set: daisy/.* = daisy/.*\(leakage\)\. Keep one", text)
    assert warnings_of(folder, split=None) == []


def test_a_picture_that_is_twice_in_the_training_set_gives_no_warning(folder):
    one, *_, two = [path for path in sets.load(folder).train.paths if path.parent.name == "rosé"]
    copy(folder, one, two)
    assert warnings_of(folder) == []


def test_many_copies_are_counted_and_some_are_named(folder):
    for number in range(6):
        copy(folder, f"daisy/{number}.{'png' if number % 2 else 'JPG'}", f"tulip/copy {number}.png")
    [text] = warnings_of(folder, split=None)
    assert text.startswith("6 pictures are in two classes: daisy/")
    assert text.count(" = ") == 5
    assert "; and 1 more. One of the labels" in text


def test_only_files_of_one_size_are_read_to_find_copies(folder, monkeypatch):
    copy(folder, "daisy/1.png", "tulip/copy.png")
    read = []
    original = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r": read.append(path) or original(path, mode))
    with pytest.warns(UserWarning, match="1 picture is in two classes"):
        pictures = sets.load(folder, split=None)
    sizes = Counter(path.stat().st_size for path in pictures.paths)
    assert read
    assert all(sizes[path.stat().st_size] > 1 for path in read)
    read.clear()
    monkeypatch.setattr(sets, "MOST_COMPARED", len(pictures) - 1)
    assert warnings_of(folder, split=None) == []
    assert read == []


# Image sets


@pytest.fixture
def pictures(folder):
    return sets.load(folder, split=None, size=32)


def test_pixels_are_uint8_of_the_size_asked_for(pictures):
    pixels, label = pictures[1]
    assert (pixels.shape, pixels.dtype, label) == ((3, 32, 32), torch.uint8, 1)
    assert pictures.pixels().shape == (22, 3, 32, 32)
    assert pictures.pixels([]).shape == (0, 3, 32, 32)
    assert pictures.size == 32


def test_a_network_s_preprocessing_sets_size_resize_and_interpolation(folder):
    ours = sets.load(folder, size=Preprocessing(size=20, resize=24, interpolation="bicubic")).train
    assert ours.geometry == Geometry(20, 24, "bicubic")
    assert ours.pixels().shape[2:] == (20, 20)


@pytest.mark.parametrize("cache_megabytes", [0, 256])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_follow_the_order_whatever_the_threads_and_the_cache(folder, threads, cache_megabytes):
    pictures = sets.load(folder, split=None, size=32, threads=threads, cache_megabytes=cache_megabytes)
    expected = torch.stack([torch.from_numpy(decode(path, Geometry.of(32))) for path in pictures.paths])
    order = torch.randperm(22, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        batches = list(pictures.batches(5, order))
        assert [len(x) for x, _ in batches] == [5, 5, 5, 5, 2]
        assert torch.equal(torch.cat([x for x, _ in batches]), expected[order])
        assert torch.equal(torch.cat([y for _, y in batches]), pictures.labels[order])
    assert torch.equal(torch.cat([x for x, _ in pictures.batches(4)]), expected)


def test_an_order_may_be_short_empty_or_repeat_rows(pictures):
    [(x, y)] = pictures.batches(8, torch.tensor([3, 3, -1]))
    assert torch.equal(x[0], x[1])
    assert torch.equal(x[2], pictures[21][0])
    assert y.tolist() == pictures.labels[[3, 3, 21]].tolist()
    assert list(pictures.batches(8, torch.tensor([], dtype=torch.long))) == []


def test_slices_and_subsets_keep_pictures_and_labels_together(pictures):
    mask = pictures.labels == 2
    for part, rows in [
        (pictures[3:9:2], [3, 5, 7]),
        (pictures[::-1], list(range(21, -1, -1))),
        (pictures.subset([4, 0]), [4, 0]),
        (pictures[2:].subset(torch.tensor([1, -1])), [3, 21]),
        (pictures.subset(mask), mask.nonzero().flatten().tolist()),
    ]:
        assert part.paths == tuple(pictures.paths[row] for row in rows)
        assert torch.equal(part.labels, pictures.labels[rows])
        assert torch.equal(part.pixels(), pictures.pixels(rows))


def test_a_row_that_does_not_exist_is_an_index_error(pictures):
    with pytest.raises(IndexError, match="no image 22: the set has 22, counted from 0"):
        pictures[22]
    with pytest.raises(IndexError):
        pictures.subset([22])
    with pytest.raises(IndexError):
        list(pictures.batches(4, torch.tensor([0, 22])))
    assert len(list(pictures)) == 22


def count_decoding(monkeypatch):
    decoded = Counter()
    original = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda path, size: decoded.update([path]) or original(path, size))
    return decoded


def test_every_picture_is_decoded_once_and_shared_by_all_subsets(folder, monkeypatch):
    decoded = count_decoding(monkeypatch)
    flowers = sets.load(folder, size=32)
    assert not decoded
    for _ in range(3):
        list(flowers.train.batches(4))
        flowers.test.pixels()
        flowers.train[2:5][0]
    assert set(decoded) == {*flowers.train.paths, *flowers.test.paths}
    assert set(decoded.values()) == {1}


def test_above_the_memory_budget_every_pass_decodes_again(folder, monkeypatch):
    decoded = count_decoding(monkeypatch)
    flowers = sets.load(folder, size=32, cache_megabytes=18 * 3 * 32 * 32 / 2**20 - 0.001)
    for _ in range(2):
        list(flowers.train.batches(4))
    assert set(decoded.values()) == {2}


def test_changing_a_batch_does_not_change_the_pictures(pictures):
    before = pictures.pixels().clone()
    for x, _ in pictures.batches(4):
        x.zero_()
    pictures[0][0].zero_()
    pictures.pixels().zero_()
    assert torch.equal(pictures.pixels(), before)


def test_decoding_is_only_a_little_ahead_and_stops_with_the_loop(folder, monkeypatch):
    decoded = count_decoding(monkeypatch)
    batches = sets.load(folder, split=None, size=32, threads=2, cache_megabytes=0).batches(2)
    next(batches)
    time.sleep(0.1)
    assert 2 <= sum(decoded.values()) <= 2 * 4
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_representations_count_every_class(folder):
    flowers = sets.load(folder, size=32)
    assert repr(flowers.test) == "ImageSet: 3 images of 32 x 32 pixels (daisy 1, rosé 1, tulip 1)"
    assert repr(flowers).splitlines()[1] == f"  train: {flowers.train!r}"
    assert ["rosé", "5", "1"] in cells(flowers._repr_html_())
    assert ["rosé", "5"] in cells(flowers.train._repr_html_())


def test_class_names_are_escaped_in_html(folder):
    (folder / "daisy").rename(folder / "a&b")
    assert "a&amp;b" in [row[0] for row in cells(sets.load(folder)._repr_html_()) if row]


# Broken pictures


@pytest.fixture
def damaged(folder):
    """Four broken pictures: cut, empty, a web page, and too large to open."""
    whole = (folder / "tulip" / "0.JPG").read_bytes()
    (folder / "tulip" / "0.JPG").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "tulip" / "1.png").write_bytes(b"")
    (folder / "tulip" / "2.JPG").write_text("<html>not found</html>")
    bomb = bytearray((folder / "tulip" / "3.png").read_bytes())
    bomb[16:24] = (10_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (folder / "tulip" / "3.png").write_bytes(bomb)
    return folder


def reading(pictures):
    yield lambda: list(pictures.batches(4))
    yield pictures.pixels
    yield lambda: list(pictures)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_first_broken_picture_met_reports_all_of_them(damaged):
    for read in reading(sets.load(damaged, split=None, size=32)):
        with pytest.raises(BadImagesError, match=r"4 of 22 pictures in .* cannot be decoded") as caught:
            read()
        assert [path.name for path, _ in caught.value.broken] == ["0.JPG", "1.png", "2.JPG", "3.png"]
        for sentence in (
            r"tulip.0\.JPG: .*truncated",
            r"tulip.1\.png: the file is empty",
            r"tulip.2\.JPG: it is a web page, no picture",
            r"tulip.3\.png: it claims 10000 x 10000 pixels",
            "on_bad='skip'",
        ):
            assert caught.match(sentence)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_skipping_leaves_broken_pictures_out_and_lists_them(damaged):
    flowers = sets.load(damaged, size=32, on_bad="skip")
    assert [(path.name, "empty" in reason) for path, reason in flowers.skipped] == [
        ("0.JPG", False),
        ("1.png", True),
        ("2.JPG", False),
        ("3.png", False),
    ]
    assert torch.bincount(flowers.train.labels).tolist() == [4, 4, 4]
    assert not {path for path, _ in flowers.skipped} & {*flowers.train.paths, *flowers.test.paths}
    assert len(flowers.train.pixels()) == 12
    assert sets.load(damaged, split=None, size=32, on_bad="skip").skipped == flowers.skipped


def test_a_class_of_broken_pictures_only_cannot_be_skipped(folder):
    for path in (folder / "daisy").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"Class 'daisy' in .* has no usable picture"):
        sets.load(folder, on_bad="skip")


def test_a_long_list_of_broken_pictures_ends_in_a_count(folder):
    for number in range(30):
        (folder / "daisy" / f"broken{number}.png").write_bytes(b"")
    with pytest.raises(BadImagesError, match=r"(?s)30 of 52 .*and 10 more") as caught:
        sets.load(folder, split=None, size=32).pixels()
    assert len(caught.value.broken) == 30
    assert str(caught.value).count("the file is empty") == 20


def test_a_picture_deleted_after_loading_is_reported(folder):
    pictures = sets.load(folder, split=None, size=32)
    pictures.paths[5].unlink()
    with pytest.raises(BadImagesError, match="No such file"):
        pictures.pixels()


# Decoding


def saved(image, suffix=".png", **options):
    file = io.BytesIO()
    image.save(file, Image.registered_extensions()[suffix], **options)
    file.seek(0)
    return file


def torchvision_pixels(image, size, resize, interpolation="bilinear"):
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    square = CenterCrop(size)(Resize(resize, InterpolationMode(interpolation))(image))
    return np.asarray(square).transpose(2, 0, 1)


@pytest.mark.parametrize("width", [37, 63, 64, 90, 201, 400])
@pytest.mark.parametrize("height", [40, 64, 131])
def test_crop_and_resize_in_one_step_equal_torchvision_s_two(width, height):
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    ours = decode(saved(image), Geometry(56, 64)).astype(int)
    difference = np.abs(ours - torchvision_pixels(image, 56, 64))
    assert difference.max() <= 2  # Pillow's two passes round, and it may swap them
    assert difference.mean() < 0.4


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_picture_turned_by_its_exif_equals_one_turned_by_hand(orientation, suffix):
    upright = scene(width=61, height=43)
    stored = upright.transpose(turn_back(orientation))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lossless = {"lossless": True} if suffix == ".webp" else {}
    turned = decode(saved(stored, suffix, exif=exif, **lossless), Geometry(30, 32))
    assert np.array_equal(turned, decode(saved(upright), Geometry(30, 32)))


def turn_back(orientation):
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return decoding._TURNS[inverse]


@pytest.mark.filterwarnings("ignore:.*EXIF|Truncated File|Tag data:UserWarning")
def test_damaged_exif_does_not_cost_the_picture():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    exif[ExifTags.Base.Make] = "Camera"
    raw = bytearray(saved(scene(), ".jpg", exif=exif).getvalue())
    start = raw.find(b"Exif")
    chance = random.Random(0)
    for _ in range(100):
        bad = bytearray(raw)
        bad[start + 14 + chance.randrange(30)] = chance.randrange(256)
        assert decode(io.BytesIO(bad), Geometry(28, 32)).shape == (3, 28, 28)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "LAB"])
def test_pixels_of_every_mode_become_the_same_colors(mode):
    suffix = {"CMYK": ".jpg", "LAB": ".tif"}.get(mode, ".png")
    image = scene()
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    else:
        stored = image.convert(mode)
    ours = decode(saved(stored, suffix), Geometry(28, 32)).astype(int)
    expected = decode(saved(image), Geometry(28, 32))
    assert np.abs(ours - expected).mean() < 12


def test_gray_pictures_have_three_equal_channels():
    for mode in ("L", "LA", "1"):
        red, green, blue = decode(saved(scene().convert(mode)), Geometry(28, 32))
        assert np.array_equal(red, green)
        assert np.array_equal(red, blue)
        assert red.std() > 10


def test_sixteen_bits_are_scaled_to_eight_instead_of_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    gray = Image.fromarray(ramp)
    pgm = io.BytesIO(b"P5 64 64 65535\n" + ramp.astype(">u2").tobytes())
    for file in (saved(gray, ".png"), saved(gray, ".tif"), pgm):
        pixels = decode(file, Geometry(64, 64))
        assert np.abs(pixels[0].astype(int) - ramp // 257).max() <= 1


def test_floating_point_pixels_are_refused_with_a_reason():
    with pytest.raises(ValueError, match="floating-point numbers of unknown range"):
        decode(saved(Image.fromarray(np.ones((40, 40), np.float32)), ".tif"))


@pytest.mark.filterwarnings("error")
def test_transparency_is_dropped_without_a_warning():
    for mode, transparency in [("P", bytes(range(256))), ("P", 3), ("L", 3), ("RGB", (1, 2, 3))]:
        stored = scene().convert(mode)
        pixels = decode(saved(stored, transparency=transparency), Geometry(28, 32))
        assert np.array_equal(pixels, decode(saved(stored), Geometry(28, 32)))


def test_an_animation_gives_its_first_frame():
    red, blue = (Image.new("RGB", (40, 40), color) for color in ("red", "blue"))
    for suffix in (".gif", ".webp"):
        pixels = decode(saved(red, suffix, save_all=True, append_images=[blue]), Geometry(28, 32))
        assert pixels[0].min() > 240
        assert pixels[2].max() < 10


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3000, 1), (1, 3000), (2, 500)])
def test_tiny_and_extreme_shapes_are_decoded(width, height):
    assert decode(saved(Image.new("RGB", (width, height), "red")))[0].min() == 255


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size_with_nearly_the_same_pixels():
    large = scene(width=1100, height=800)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        ours = decode(saved(large, ".jpg", quality=95, exif=exif), Geometry(56, 64)).astype(int)
        upright = large if orientation == 1 else large.transpose(Image.Transpose.ROTATE_270)
        assert np.abs(ours - torchvision_pixels(upright, 56, 64)).mean() < 2


# The real thing


@pytest.mark.slow
@pytest.mark.photos
def test_real_flower_photos_load_and_match_torchvision(photos):
    flowers = sets.load(photos, per_class=20)
    assert flowers.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert (len(flowers.train), len(flowers.test)) == (80, 20)
    expected = np.stack([torchvision_pixels(Image.open(path), 224, 256) for path in flowers.test.paths])
    difference = np.abs(flowers.test.pixels().numpy().astype(int) - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.1


def test_pictures_read_once_are_not_kept_and_those_that_are_kept_are_used(folder):
    pictures = sets.load(folder, split=None, size=32)
    passing = pictures.passing()
    first = torch.cat([x for x, _ in passing.batches(2)])
    assert not pictures._pictures._is_kept.any()
    assert torch.equal(first, pictures.pixels())
    assert pictures._pictures._is_kept.all()
    assert torch.equal(torch.cat([x for x, _ in passing.batches(2)]), first)
