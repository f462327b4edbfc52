"""Sets of pictures: splits, batches, subsets and copies in two places."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from scenes import cells, names, scene

from tlkit.images import sets
from tlkit.images.decoding import Geometry, decode
from tlkit.images.preprocessing import Preprocessing

pytestmark = pytest.mark.usefixtures("home")


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


# Sources


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


def test_changing_a_batch_does_not_change_the_pictures(pictures):
    before = pictures.pixels().clone()
    for x, _ in pictures.batches(4):
        x.zero_()
    pictures[0][0].zero_()
    pictures.pixels().zero_()
    assert torch.equal(pictures.pixels(), before)


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
