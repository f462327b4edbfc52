"""What makes a store of features stale: exactly the rows whose pictures are others are computed, with the reason."""

from __future__ import annotations

import os
import shutil

import pytest
import samples
import torch
from cells import run_as_a_cell
from nets import classifier, seeded
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import RandomHorizontalFlip

import tlkit as tl
from tlkit.features.spec import Layout
from tlkit.features.store import FeatureStore
from tlkit.helper import TransferLearningHelper
from tlkit.images.pictures import ChangedImageError

ALL = 24

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_shards")]  # a store is filled for each kind of change


class Case:
    """Photos, a helper and the store that it filled."""

    def __init__(self, folder, photos, **options):
        self.photos, self.to = photos, folder / "store"
        self.helper = samples.make_helper(**options)
        self.pictures = samples.read_photos(photos, self.helper)
        self.helper.featurize(self.pictures, to=self.to, progress=False)

    def again(self, helper=None, **options):
        """Featurize again; return the number of rows that were computed, and the reasons."""
        helper = self.helper = helper or TransferLearningHelper(self.helper.network)
        self.pictures = samples.read_photos(self.photos, helper)
        store = helper.featurize(self.pictures, to=self.to, progress=False, **options)
        planned = {shard.stem for shard in Layout.read(self.to).shards}
        assert {file.stem for file in (self.to / "shards").iterdir()} == planned, "nothing else is left"
        assert store.verify() == []
        assert store.classes == self.pictures.classes
        assert store.labels.equal(self.pictures.labels)
        expected = helper.featurize(self.pictures, progress=False, **options).tensors
        assert all(torch.allclose(store.load().tensors[name], expected[name], atol=1e-5) for name in expected)
        return store.rows_computed, store.reasons


@pytest.fixture
def case(tmp_path, photos):
    return Case(tmp_path, photos)


# What needs all rows again


def test_one_weight(case):
    with torch.no_grad():
        case.helper.network.vertices["block2_conv1"].module.weight[0, 0, 0, 0] += 1e-4
    assert case.again() == (ALL, ("weights of block2_conv1 differ",))


def test_one_statistic_of_batch_normalization(tmp_path, photos):
    case = Case(tmp_path, photos, batch_norm=True)
    statistics = [name for name, _ in case.helper.network.named_buffers() if name.endswith("running_var")]
    [name] = [name for name in statistics if "block3_conv2" in name]
    with torch.no_grad():
        case.helper.network.get_buffer(name)[1] *= 1.5
    computed, [reason] = case.again()
    assert computed == ALL
    assert reason.startswith("weights of block3_conv2")
    assert reason.endswith(" differ")


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"mean": (0.5, 0.456, 0.406)}, ["preprocessing: mean [0.485, 0.456, 0.406] -> [0.5, 0.456, 0.406]"]),
        ({"std": (0.5, 0.5, 0.5)}, ["preprocessing: std [0.229, 0.224, 0.225] -> [0.5, 0.5, 0.5]"]),
        (
            {"interpolation": "bicubic"},
            ["preprocessing: interpolation bilinear -> bicubic", "pixels: interpolation bilinear -> bicubic"],
        ),
        ({"resize": 40}, ["preprocessing: resize 36 -> 40", "pixels: resize 36 -> 40"]),
    ],
)
def test_preprocessing(case, changes, reasons):
    assert case.again(samples.make_helper(**changes)) == (ALL, tuple(reasons))


def test_another_boundary(case):
    computed, reasons = case.again(samples.make_helper("block3_pool"))
    assert computed == ALL
    assert reasons == ("boundary 'block3_pool' instead of 'block4_pool'",)
    assert case.again(samples.make_helper("block3_pool"))[1] == ()


def test_another_dtype(case):
    assert case.again(dtype=torch.float16) == (ALL, ("dtype float32 -> float16",))


def test_a_layer_with_the_same_weights_that_computes_something_else(case):
    helper = samples.make_helper()
    helper.network.vertices["block1_conv2"].module.activation = nn.Tanh()
    computed, [reason] = case.again(TransferLearningHelper(helper.network))
    assert computed == ALL
    assert reason.startswith("graph: block1_conv2")


class Scaled(nn.Module):
    """A module whose printout says nothing of its factor."""

    def __init__(self, factor, act=nn.ReLU):
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(3, 2, 3)
        self.act = act()

    def forward(self, x):
        return self.act(self.conv(x)) * self.factor


class ScaledTwice(Scaled):
    def forward(self, x):
        return super().forward(x) * 2

    __qualname__ = Scaled.__qualname__


class Shifted(Scaled):
    """Holds numbers that are neither weights nor saved with them."""

    def __init__(self, shift):
        super().__init__(1.0)
        self.register_buffer("shift", torch.tensor(shift), persistent=False)

    def forward(self, x):
        return super().forward(x) + self.shift


def helper_of(module):
    with seeded(1):
        for weight in module.parameters():
            nn.init.normal_(weight)
        vertices = {
            "own": tl.Vertex(module, ("image",)),
            "flat": tl.Vertex(nn.Flatten(), ("own",)),
            "answer": tl.Vertex(nn.Linear(2 * 4 * 4, 2), ("flat",)),
        }
    return TransferLearningHelper(tl.Network(vertices, {"image": (3, 6, 6)}, ["answer"]).freeze("own"))


def traced(act):
    return torch.fx.symbolic_trace(Scaled(2.0, act))


ScaledTwice.__name__ = "Scaled"
HIDDEN = {
    "a number that its printout does not show": (Scaled(2.0), Scaled(3.0)),
    "a function of its own": (Scaled(2.0), ScaledTwice(2.0)),
    "a part of a traced module": (traced(nn.ReLU), traced(nn.Tanh)),
    "a buffer that is not saved": (Shifted(1.0), Shifted(2.0)),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_a_module_of_ones_own_that_computes_something_else_with_the_same_weights(tmp_path, what):
    with seeded(2):
        data = torch.randn(8, 3, 6, 6), torch.arange(8) % 2
    for module in HIDDEN[what]:
        helper = helper_of(module)
        store = helper.featurize(data, to=tmp_path, progress=False)
        assert store.rows_computed == 8, what
        assert torch.equal(store.load().tensors["own"], helper.featurize(data, progress=False).tensors["own"])
    assert "own" in " ".join(store.reasons)
    again = helper_of(HIDDEN[what][1]).featurize(data, to=tmp_path, progress=False)
    assert (again.rows_computed, again.reasons) == (0, ())


CELL = """
FACTOR = 2.0

def shifted(x):
    return x + 1.0

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.weights = [1.0, 2.0]
        self.function = torch.relu

    def forward(self, x):
        return self.conv(x)

    def scaled(self, x):
        return x * 3.0

class Cell(Base):
    def forward(self, x):
        one = [shifted(part) * FACTOR for part in (super().forward(x),)][0]
        return self.function(self.scaled(one)) * self.weights[0]
"""
EDITS = {
    "a number of the cell": ("FACTOR = 2.0", "FACTOR = 4.0"),
    "a function of the cell": ("x + 1.0", "x + 2.0"),
    "a method that forward calls": ("x * 3.0", "x * 5.0"),
    "an inherited forward": ("return self.conv(x)", "return -self.conv(x)"),
    "code inside an expression": ("shifted(part) * FACTOR", "shifted(part) / FACTOR"),
    "a list of numbers": ("[1.0, 2.0]", "[1.5, 2.0]"),
    "a function that it holds": ("torch.relu", "torch.tanh"),
}
HARMLESS = {
    "a variable's name": ("one", "another"),
    "a comment": ("return x * 3.0", "# three times as much\n        return x * 3.0"),
    "empty lines": ("FACTOR = 2.0", "\n\nFACTOR = 2.0"),
    "a function that forward doesn't call": (
        "class Cell(Base):",
        "class Cell(Base):\n    def plot(self):\n        print(1)\n",
    ),
}


def run_cell(code):
    """Run a notebook's cell and return a helper of the module that it defines."""
    names = {"nn": nn, "torch": torch, "__name__": "__main__"}
    run_as_a_cell(code, names)
    return helper_of(names["Cell"]())


def computed_again(folder, old, new):
    assert CELL.count(old) >= 1
    with seeded(2):
        data = torch.randn(8, 3, 6, 6), torch.arange(8) % 2
    run_cell(CELL).featurize(data, to=folder, progress=False)
    helper = run_cell(CELL.replace(old, new))
    store = helper.featurize(data, to=folder, progress=False)
    assert torch.equal(store.load().tensors["own"], helper.featurize(data, progress=False).tensors["own"])
    return store.rows_computed, store.reasons


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_in_the_cell_of_a_module_of_ones_own(tmp_path, what):
    computed, [reason] = computed_again(tmp_path, *EDITS[what])
    assert computed == 8
    assert reason.startswith("graph: own")


@pytest.mark.parametrize("what", HARMLESS)
def test_an_edit_that_changes_nothing_of_what_a_module_computes(tmp_path, what):
    assert computed_again(tmp_path, *HARMLESS[what]) == (0, ())


# What needs some rows again


def test_one_photo_edited_in_place_computes_its_row(case):
    edited = case.pictures.paths[9]
    before = edited.stat()
    with Image.open(edited) as image:
        changed = image.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    changed.save(edited)
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert case.again() == (1, ("1 image edited",))


@pytest.mark.parametrize("seed", range(3))
def test_one_photo_added_computes_one_row(case, seed):
    samples.save_picture(case.photos / "daisy" / f"new {seed}.png", 100 + seed)
    assert case.again() == (1, ("1 image added",))


def test_photos_added_removed_and_moved_at_once_compute_the_added_ones(case):
    for number in range(3):
        samples.save_picture(case.photos / "roses" / f"new {number}.png", 200 + number)
        case.pictures.paths[number].unlink()
    case.pictures.paths[7].rename(case.pictures.paths[7].with_name("other.png"))
    assert case.again() == (3, ("3 images added, 3 removed, 1 moved or renamed",))


def test_a_photo_that_was_replaced_after_its_pixels_were_read(case):
    case.pictures = samples.read_photos(case.photos, case.helper)
    case.pictures.pixels()  # stay in memory
    replaced, by = case.pictures.paths[3], case.pictures.paths[4]
    replaced.write_bytes(by.read_bytes())
    store = case.helper.featurize(case.pictures, to=case.to, progress=False)
    assert torch.allclose(store.load().tensors["block4_pool"][3], store.load().tensors["block4_pool"][4], atol=1e-5)
    assert case.again() == (0, ())


def test_a_photo_that_changes_and_changes_back_meanwhile(case, monkeypatch):
    shutil.rmtree(case.to)
    changing, others = case.pictures.paths[9], case.pictures.paths[3].read_bytes()
    content = changing.read_bytes()
    case.pictures = samples.read_photos(case.photos, case.helper, cache_megabytes=0)
    spec, compute = case.helper.plan(case.pictures)
    changing.write_bytes(others)
    with pytest.raises(ChangedImageError, match=rf"{changing.name}' changed while the pictures were being read"):
        FeatureStore.fill(case.to, spec, compute, progress=False)
    changing.write_bytes(content)
    rows, reasons = case.again()
    assert rows <= ALL - 2 * samples.ROWS_PER_SHARD, "what was finished is kept"
    assert reasons == ("shards 2 to 5 were not finished yet",)


def test_views_of_a_photo_that_changes_meanwhile(case):
    views = samples.read_photos(case.photos, case.helper, cache_megabytes=0).augmented(RandomHorizontalFlip())
    spec, compute = case.helper.plan(views, views=2)
    case.pictures.paths[0].write_bytes(case.pictures.paths[1].read_bytes())
    with pytest.raises(ChangedImageError, match="Row 0 changed while the data were being read"):
        FeatureStore.fill(case.to, spec, compute, progress=False)


# What needs nothing


@pytest.mark.parametrize("row", [23, 12, 0])
def test_one_photo_removed(case, row):
    case.pictures.paths[row].unlink()
    assert case.again() == (0, ("1 image removed, nothing computed",))


def test_a_photo_that_changes_its_class(case):
    moved = case.pictures.paths[5]
    other = next(name for name in samples.CLASSES if name != moved.parent.name)
    moved.rename(case.photos / other / moved.name)
    assert case.again() == (0, ("1 image moved or renamed, nothing computed",))


def test_a_renamed_class(case):
    (case.photos / "daisy").rename(case.photos / "zinnia")
    assert case.again() == (0, ("class renamed: daisy -> zinnia, nothing computed",))


@pytest.mark.parametrize(("before", "after"), [(31, 32), (255, 256), (511, 512)])
def test_one_row_more_where_another_engine_is_chosen(tmp_path, before, after):
    helper = TransferLearningHelper(classifier(4, 6, 3), "0")
    with seeded(0):
        x = torch.randn(after, 4)
    helper.featurize((x[:before], torch.arange(before) % 3), to=tmp_path, progress=False)
    store = helper.featurize((x, torch.arange(after) % 3), to=tmp_path, progress=False)
    assert (store.rows_computed, store.reasons) == (1, ("1 row added",))


def test_other_names_of_variables_and_another_order_of_making_things(case):
    another_name = samples.make_helper()
    assert case.again(another_name) == (0, ())


def featurize_elsewhere(send, photos, store):
    from tlkit.features import spec as spec_module

    spec_module.MOST_ROWS = samples.ROWS_PER_SHARD
    helper = samples.make_helper()
    found = helper.featurize(samples.read_photos(photos, helper), to=store, progress=False)
    return found.rows_computed, found.reasons, os.getpid()


def test_another_process(case, apart):
    computed, reasons, process = apart(featurize_elsewhere, case.photos, case.to).result()
    assert process != os.getpid()
    assert (computed, reasons) == (0, ())


def test_a_moved_store(case, tmp_path):
    case.to = case.to.rename(tmp_path / "store of 2027")
    assert case.again() == (0, ())


def test_moved_copied_and_touched_photos(case, tmp_path):
    case.photos = case.photos.rename(tmp_path / "bilder")
    assert case.again() == (0, ())
    case.photos = shutil.copytree(case.photos, tmp_path / "a" / "copy", copy_function=shutil.copyfile)
    assert case.again() == (0, ())
    for photo in case.photos.rglob("*.png"):
        os.utime(photo, (0, 0))
    assert case.again() == (0, ())


def test_another_current_folder_and_a_relative_path(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case.to = case.to.relative_to(tmp_path)
    assert case.again() == (0, ())


def test_other_weights_behind_the_boundary_and_the_mode_of_the_network(case):
    case.helper.network.train()
    with torch.no_grad():
        for weight in case.helper.unfrozen_network.parameters():
            weight.add_(0.1)
    assert case.again() == (0, ())


def test_other_ways_of_reading_the_same_pictures(case):
    pictures = samples.read_photos(case.photos, case.helper, threads=1, cache_megabytes=0)
    store = case.helper.featurize(pictures, to=case.to, progress=False)
    assert (store.rows_computed, store.reasons) == (0, ())
