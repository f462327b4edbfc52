import pytest

from tlkit.features.differences import compare_boundaries, compare_images, compare_keys, write_ranges

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"dtype": "float32"}, {"dtype": "float16"}, ["dtype float32 -> float16"]),
        ({"preprocessing": {"resize": 256}}, {"preprocessing": {"resize": 232}}, ["preprocessing: resize 256 -> 232"]),
        ({"preprocessing": {"mean": [0.5]}}, {"preprocessing": {"mean": [0]}}, ["preprocessing: mean [0.5] -> [0]"]),
        ({"views": 1}, {"views": 1.0}, ["views 1 -> 1.0"]),
        ({"crop": True}, {"crop": 1}, ["crop true -> 1"]),
        ({"crop": "1"}, {"crop": 1}, ["crop 1 -> 1"]),
        ({"graph": SHA}, {"graph": SHA[::-1]}, ["graph differs"]),
        ({}, {"views": 4}, ["views added"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {}}}, ["a: b: c removed"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, []),
    ],
)
def test_keys_differ_in_words(old, new, words):
    assert compare_keys(old, new) == words


def test_weights_are_told_by_their_vertex():
    old = {"block5_conv3.weight": "1", "block5_conv3.bias": "2", "fc1.weight": "3"}
    new = {"block5_conv3.weight": "9", "block5_conv3.bias": "8", "fc2.weight": "3"}
    assert compare_keys({"weights": old}, {"weights": new}) == [
        "weights of block5_conv3 differ",
        "weights of fc2 were added",
        "weights of fc1 were removed",
    ]


def test_many_weights_are_cut_short():
    old = {f"conv{k}.weight": "1" for k in range(16)}
    new = {f"conv{k}.weight": "2" for k in range(16)}
    assert compare_keys({"weights": old}, {"weights": new}) == ["weights of conv0, conv1, conv2 and 13 more differ"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"fc2": [4]}, {"fc1": [4]}, ["boundary 'fc1' instead of 'fc2'"]),
        ({"a": [4]}, {"b": [4], "c": [4]}, ["boundaries 'b' and 'c' instead of 'a'"]),
        ({"a": [4]}, {"a": [4], "c": [4]}, ["boundary 'c' added"]),
        ({"a": [4], "c": [4]}, {"c": (4,)}, ["boundary 'a' removed"]),
        ({"a": [4, 4]}, {"a": (8, 8)}, ["boundary 'a': shape (4, 4) -> (8, 8)"]),
    ],
)
def test_boundaries_differ_in_words(old, new, words):
    assert compare_boundaries(old, new) == words


def image(path, sha="", label="daisy"):
    return label, {"path": path, "sha256": sha or path[-1]}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (["a", "b", "c"], ""),
        (["b", "a", "c"], "the images are in another order"),
        (["a", "b", "c", "d", "e", "f"], "3 images added"),
        (["a", "c"], "1 image removed"),
        (["x", "y", "z", "b", "c"], "3 images added, 1 removed"),
        (["b", "c", "sub/a"], "1 image moved or renamed"),
    ],
)
def test_images_differ_in_words(new, words):
    assert compare_images([image("a"), image("b"), image("c")], [image(path) for path in new]) == words


def test_edited_and_relabeled_images_are_counted():
    old = [image("a"), image("b"), image("c")]
    new = [image("a", "2"), image("b", label="roses"), image("d"), image("e"), image("f")]
    assert compare_images(old, new) == "3 images added, 1 removed, 1 edited, 1 with another label"


def test_rows_without_a_path_are_told_by_their_number():
    old, new = [("daisy", {"sha256": "1"})] * 2, [("daisy", {"sha256": "1"}), ("daisy", {"sha256": "2"})]
    assert compare_images(old, new) == "1 row edited"


def test_numbers_are_written_in_short():
    assert write_ranges([]) == ""
    assert write_ranges([4]) == "4"
    assert write_ranges([7, 0, 3, 4, 5]) == "0, 3 to 5, 7"
