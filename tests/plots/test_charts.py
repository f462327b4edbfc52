"""The figures: small, described in words, true to the colors' meaning, and drawn without global state."""

from __future__ import annotations

import base64
import io
import re
import threading
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from tlkit import plots
from tlkit.features.rows import Features
from tlkit.graph.network import Network
from tlkit.plots.figure import FROZEN, RIGHT, TRAINABLE, WRONG, Picture, shorten, text_width
from tlkit.plots.strip import draw_strip
from tlkit.profiling import CutProfile, FreezeProfile
from tlkit.training.evaluation import Evaluation

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
CONVOLUTIONS = {
    "block1": (3, 64),
    "block2": (64, 128),
    "block3": (128, 256),
    "block4": (256, 512),
    "block5": (512, 512),
}


class Photos:
    """Smooth colored noise behind the data protocol: about as hard to compress as photos of flowers."""

    classes = FLOWERS

    def __init__(self, count: int = 40) -> None:
        self.labels = torch.arange(count) % 5

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size, order=None):
        pixels = [np.random.default_rng(int(row)).integers(0, 255, (6, 6, 3), dtype=np.uint8) for row in order]
        photos = [np.asarray(Image.fromarray(p).resize((224, 224), Image.Resampling.BICUBIC)) for p in pixels]
        yield torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2), self.labels[order]


def vgg16(boundary: str) -> list[tuple[str, str, int, bool]]:
    blocks = []
    for block, (before, width) in CONVOLUTIONS.items():
        for number in range(2 if block < "block3" else 3):
            channels = before if number == 0 else width
            blocks.append((f"{block}_conv{number + 1}", "Conv2d", 9 * channels * width + width))
        blocks.append((f"{block}_pool", "MaxPool", 0))
    blocks += [("flatten", "Flatten", 0), ("fc1", "Dense", 102764544), ("fc2", "Dense", 16781312)]
    blocks.append(("predictions", "Output", 20485))
    last = [name for name, *_ in blocks].index(boundary)
    return [(*block, number <= last) for number, block in enumerate(blocks)]


def history(best: float, count: int = 30) -> SimpleNamespace:
    losses = [1.6 - best * step / count for step in range(count)]
    return SimpleNamespace(losses=losses, evaluations=[(step, best * step / count) for step in range(0, count + 1, 5)])


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    labels = torch.arange(40) % 5
    right = torch.nn.functional.one_hot(labels, 5)
    return Evaluation(
        (torch.randn(40, 5, generator=torch.Generator().manual_seed(3)) + 2 * right).softmax(1), labels, FLOWERS
    )


@pytest.fixture(scope="module")
def pictures(evaluation) -> dict[str, Picture]:
    return {
        "grid": plots.image_grid(Photos(), probabilities=evaluation.probabilities),
        "curves": plots.learning_curves({"transferred": history(0.9), "from scratch": history(0.4)}, batch_size=15),
        "losses": plots.learning_curves(history(0.9, 500), show="loss"),
        "confusion": plots.confusion_matrix(evaluation),
        "strip": draw_strip(vgg16("fc2"), boundary="fc2"),
        "bars": plots.bars({"from scratch": 31.0, "transferred": 92.7}, "Transfer triples the accuracy", unit="%"),
    }


def texts(picture: Picture) -> list[str]:
    axes = picture.figure.axes[0]
    return [text.get_text() for text in [*picture.figure.texts, *axes.texts]]


def patches(picture: Picture, color: str) -> list[Rectangle]:
    found = [patch for patch in picture.figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [patch for patch in found if to_hex(patch.get_facecolor()).upper() == color and patch.get_fill()]


def frames(picture: Picture, color: str) -> int:
    found = [patch for patch in picture.figure.axes[0].patches if not patch.get_fill()]
    return sum(to_hex(patch.get_edgecolor()).upper() == color for patch in found)


@pytest.mark.parametrize("name", ["grid", "curves", "losses", "confusion", "strip", "bars"])
def test_a_picture_is_small_white_16_cm_wide_and_titled_with_its_message(pictures, name):
    picture = pictures[name]
    image = Image.open(io.BytesIO(picture.encoded[1]))
    assert image.width == 630
    assert len(picture.encoded[1]) < (100_000 if name == "grid" else 60_000)
    assert image.convert("RGB").getpixel((image.width - 1, 0)) == (255, 255, 255)
    title = " ".join(picture.figure.texts[0].get_text().split("\n"))
    assert picture.alt.startswith(title)
    assert len(picture.alt) > len(title)


@pytest.mark.parametrize("name", ["grid", "curves", "losses", "confusion", "strip", "bars"])
def test_no_letter_is_smaller_than_10_points_or_cut_off(pictures, name):
    picture = pictures[name]
    picture.figure.draw_without_rendering()
    width, height = picture.figure.bbox.width, picture.figure.bbox.height
    axes = picture.figure.axes[0]
    written = [*picture.figure.texts, *axes.texts]
    if axes.axison:
        written += [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
    for text in (text for text in written if text.get_text()):
        assert text.get_fontsize() >= 10
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text


def test_a_notebook_gets_image_html_and_a_stable_text():
    picture = plots.bars({"a": 1}, 'The <b>title</b> says "it"')
    data, metadata = picture._repr_mimebundle_(include=None, exclude=None)
    assert set(data) == {"image/png", "text/html", "text/plain"}
    assert base64.b64decode(data["image/png"]) == picture.encoded[1]
    assert metadata == {"image/png": {"alt": picture.alt}}
    assert data["text/plain"] == "Picture('Bars: a')"

    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(data["text/html"])
    [(tag, attributes)] = tags
    assert tag == "img"
    assert attributes["alt"] == picture.alt == 'The <b>title</b> says "it". Bars: a 1.'
    assert attributes["src"] == "data:image/png;base64," + data["image/png"]


def test_the_text_of_a_picture_holds_no_measured_numbers():
    one, other = (plots.learning_curves({"run": history(best)}) for best in (0.5, 0.9))
    assert repr(one) == repr(other)
    assert one.alt != other.alt


def test_drawing_twice_gives_the_same_bytes(evaluation):
    assert plots.confusion_matrix(evaluation).encoded[1] == plots.confusion_matrix(evaluation).encoded[1]


def test_pyplot_knows_nothing_of_the_figures_and_its_styles_do_not_reach_them(pictures):
    assert pyplot.get_fignums() == []
    with pyplot.style.context("dark_background"):
        dark = draw_strip(vgg16("fc2"), boundary="fc2").encoded[1]
        curves = plots.learning_curves(history(0.9, 500), show="loss").encoded[1]
    assert dark == pictures["strip"].encoded[1]
    assert curves == pictures["losses"].encoded[1]
    assert pyplot.get_fignums() == []


def test_threads_draw_at_the_same_time(pictures):
    drawn = {}

    def draw(number: int) -> None:
        drawn[number] = draw_strip(vgg16("fc2"), boundary="fc2").encoded[1]

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == dict.fromkeys(range(4), pictures["strip"].encoded[1])


def test_a_picture_is_saved_as_png_and_as_svg(pictures, tmp_path):
    pictures["bars"].save(tmp_path / "bars.png")
    pictures["bars"].save(tmp_path / "bars.svg")
    assert Image.open(tmp_path / "bars.png").width == 630
    assert "<svg" in (tmp_path / "bars.svg").read_text()


def test_names_start_no_formula_and_long_ones_are_cut():
    long = "yellow lady's slipper, yellow lady-slipper, Cypripedium calceolus"
    picture = plots.bars({"$x^2$": 3, long: 2}, "Costs $5 and $6")
    assert "$x^2$" in texts(picture)
    assert not any(text.get_parse_math() for text in [*picture.figure.texts, *picture.figure.axes[0].texts])
    assert any(text.endswith("…") and long.startswith(text[:-1]) for text in texts(picture))
    assert len(picture.encoded[1]) > 1000
    assert text_width(shorten(long, 120)) <= 120
    assert shorten("daisy", 120) == "daisy"


# image_grid


def test_a_grid_says_correct_or_wrong_in_words_and_frames(evaluation):
    rows = [0, 1, 2, 3, 4, 5, 6]
    picture = plots.image_grid(Photos(), rows, probabilities=evaluation.probabilities)
    right = int((evaluation.predicted == evaluation.labels)[rows].sum())
    assert 0 < right < 7
    written = texts(picture)
    assert written.count("correct") == right == frames(picture, RIGHT)
    assert written.count("wrong") == 7 - right == frames(picture, WRONG)
    assert f"{right} of these 7 images are classified correctly" in picture.alt
    assert picture.alt.count(", wrong") == 7 - right


def test_the_bars_of_a_grid_are_as_long_as_the_probabilities(evaluation):
    picture = plots.image_grid(Photos(), [8], probabilities=evaluation.probabilities, columns=4)
    [empty] = patches(picture, "#DDDDDD")
    [bar] = patches(picture, RIGHT) + patches(picture, WRONG)
    assert bar.get_width() / empty.get_width() == pytest.approx(evaluation.probabilities[8].max().item(), abs=1e-6)


def test_labels_and_probabilities_follow_the_chosen_rows():
    probabilities = torch.nn.functional.one_hot(torch.arange(40) % 5, 5).float()
    picture = plots.image_grid(Photos(), torch.tensor([39, 3]), probabilities=probabilities)
    assert picture.alt.endswith(
        "tulips predicted tulips with 100%, correct; sunflowers predicted sunflowers with 100%, correct."
    )


@pytest.mark.parametrize("labels", [torch.arange(400) // 80, torch.arange(400) % 5])
def test_a_grid_without_rows_spreads_over_the_classes(labels):
    photos = Photos(400)
    photos.labels = labels
    picture = plots.image_grid(photos)
    assert [texts(picture).count(name) for name in FLOWERS] == [3] * 5
    assert texts(picture)[0] == "15 of 400 images"


def test_photos_are_kept_as_jpeg_with_a_white_page_and_charts_as_png():
    noise = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    pale = 200 + 55 * torch.nn.functional.interpolate(noise, size=(224, 224), mode="bicubic").clamp(0, 1)
    picture = plots.image_grid(pale.byte(), probabilities=torch.eye(3), labels=torch.arange(3), columns=3)
    mime, data = picture.encoded
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert mime == "image/jpeg"
    assert (pixels[:, -1] > 250).all()
    assert len(np.unique(pixels[60:180, 60:180].reshape(-1, 3), axis=0)) > 256
    assert plots.bars({"a": 1}, "A bar").encoded[0] == "image/png"


def test_the_images_of_a_grid_stand_in_the_order_of_the_rows():
    colors = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    images = colors[:, :, None, None].expand(3, 3, 8, 8)

    class Plain(Photos):
        def batches(self, batch_size, order=None):
            yield images[order], self.labels[order]

    for data in (images, Plain(3)):
        drawn = plots.image_grid(data, [2, 0]).figure.axes[0].images
        assert [image.get_array()[0, 0].tolist() for image in drawn] == [[0, 0, 255], [255, 0, 0]]
        assert drawn[0].get_extent()[0] < drawn[1].get_extent()[0]


def test_a_grid_takes_plain_tensors():
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    assert "3" in texts(plots.image_grid(images, labels=torch.tensor([3, 1])))
    assert "roses 100%" in texts(plots.image_grid(images, probabilities=torch.eye(5)[[2, 0]], classes=FLOWERS))


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (range(16), {}, r"1 to 15 images; got 16 rows.*rows\[:15\]"),
        ([], {}, "got 0 rows"),
        ([2, 40], {}, "Row 40 does not exist.*0 to 39"),
        ([-1], {}, "Row -1 does not exist"),
        ([0], {"probabilities": torch.eye(5)}, "one row of probabilities per image: got 5 for 40"),
        ([0], {"columns": 0}, "1 to 8; got 0"),
    ],
)
def test_a_grid_that_cannot_be_drawn_says_why(rows, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        plots.image_grid(Photos(), rows, **options)


def test_a_grid_refuses_empty_data_and_normalized_images():
    with pytest.raises(ValueError, match="no images to show"):
        plots.image_grid(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"uint8 of shape \(n, 3, height, width\); got torch.float32"):
        plots.image_grid(torch.zeros(2, 3, 8, 8))


# learning_curves


def test_test_accuracy_is_dashed_and_training_loss_solid():
    accuracy = plots.learning_curves(history(0.9)).figure.axes[0]
    loss = plots.learning_curves(history(0.9), show="loss").figure.axes[0]
    assert {line.get_linestyle() for line in accuracy.lines} == {"--"}
    assert {line.get_linestyle() for line in loss.lines} == {"-"}
    assert accuracy.get_ylim() == (0, 1)
    assert loss.get_ylim()[0] == 0


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9])
def test_curves_are_labeled_at_their_ends_without_overlap(level):
    runs = {"head": history(level + 0.09), "two blocks": history(level + 0.08), "one block": history(level + 0.085)}
    axes = plots.learning_curves(runs).figure.axes[0]
    assert [label.get_text().rsplit(" ", 1)[0] for label in axes.texts] == ["two blocks", "one block", "head"]
    heights = [label.get_position()[1] * axes.bbox.height for label in axes.texts]
    assert all(above - below >= 17 for below, above in pairwise(heights))
    assert heights[0] >= 0
    assert heights[-1] <= axes.bbox.height + 5
    assert all(abs(height - (level + 0.085) * axes.bbox.height) < 45 for height in heights)
    assert axes.get_legend() is None


def test_the_title_of_curves_tells_the_outcome():
    runs = {"transferred": history(0.9), "from scratch": history(0.4)}
    assert plots.learning_curves(runs, batch_size=15).alt.startswith(
        "transferred: accuracy reaches 90% after 450 images seen; from scratch 40%."
    )
    assert plots.learning_curves(runs, title="Mine").alt.startswith("Mine.")
    assert plots.learning_curves(history(0.6), show="loss").alt.startswith("Loss falls to 1.03 after 30 iterations.")
    worse = SimpleNamespace(losses=[1.0, 2.0], evaluations=[(1, 0.9), (2, 0.6)])
    assert plots.learning_curves(worse).alt.startswith("Accuracy ends at 60% after 2 iterations.")
    assert plots.learning_curves(worse, show="loss").alt.startswith("Loss ends at 2.00 after 2 iterations.")


def test_without_evaluations_the_loss_is_drawn():
    plain = SimpleNamespace(losses=[2.0, 1.0], evaluations=[])
    assert plots.learning_curves(plain).figure.axes[0].get_ylabel().startswith("loss on training images")


def test_a_diverged_run_is_called_so():
    broken = SimpleNamespace(losses=[1.0, 9.0, float("nan"), float("inf")], evaluations=[])
    assert "Loss has diverged after 2 iterations" in plots.learning_curves(broken).alt


def test_curves_that_cannot_be_drawn_say_why():
    with pytest.raises(ValueError, match="history has no finite loss"):
        plots.learning_curves(SimpleNamespace(losses=[], evaluations=[]))
    with pytest.raises(ValueError, match="run was never evaluated"):
        plots.learning_curves({"run": SimpleNamespace(losses=[1.0], evaluations=[])}, show="accuracy")
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        plots.learning_curves(history(0.9), show="acuracy")
    with pytest.raises(ValueError, match="the mapping of histories"):
        plots.learning_curves({})


# confusion_matrix


def test_a_confusion_matrix_writes_every_count_and_names_the_worst_mistake():
    predicted = torch.tensor([0, 0, 1, 1, 1, 0])
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    picture = plots.confusion_matrix(Evaluation(torch.eye(3)[predicted], labels, ("daisy", "roses", "tulips")))
    numbers = sorted(int(text) for text in texts(picture) if text.isdigit())
    assert numbers == [1, 1, 2, 2]
    assert picture.alt.startswith("The most frequent mistake: daisy taken for roses, 2 of 4.")
    assert "3 of 6 correct" in picture.alt
    shades = picture.figure.axes[0].images[0].get_array()
    assert shades[2].tolist() == [[1, 1, 1]] * 3  # no tulips at all: white
    half = 0.5**0.5  # the shade of one half of a row
    np.testing.assert_allclose(shades[0, 0], 1 - half * (1 - np.array(to_rgb(RIGHT))), rtol=1e-6)
    np.testing.assert_allclose(shades[1, 0], 1 - half * (1 - np.array(to_rgb(WRONG))), rtol=1e-6)


def test_a_perfect_confusion_matrix_says_so():
    picture = plots.confusion_matrix(Evaluation(torch.eye(3), torch.arange(3)))
    assert picture.alt.startswith("All 3 images are classified correctly.")


@pytest.mark.parametrize("count", [2, 20, 60, 300])
def test_a_confusion_matrix_fits_any_number_of_classes(count):
    names = tuple(f"a rather long class name {number}" for number in range(count))
    picture = plots.confusion_matrix(Evaluation(torch.eye(count), torch.arange(count), names))
    assert len(picture.encoded[1]) < 60_000
    assert len(texts(picture)) == (3 + 3 * count if count <= 20 else 3 + 2 * count)


# network_strip


def test_frozen_blocks_are_blue_hatched_and_trainable_ones_plain_orange():
    picture = draw_strip(vgg16("block4_pool"), boundary="block4_pool")
    frozen, trainable = patches(picture, FROZEN), patches(picture, TRAINABLE)
    assert sum(patch.get_hatch() is not None for patch in frozen) == 14
    assert all(patch.get_hatch() is None for patch in trainable)
    assert len([patch for patch in trainable if patch.get_height() > 5]) == 8
    written = texts(picture)
    assert "frozen: 7,635,264 parameters" in written
    assert "trainable: 126,645,765 parameters" in written
    assert "boundary: block4_pool" in written


def test_every_name_of_vgg16_is_written():
    written = " ".join(texts(draw_strip(vgg16("fc2"), boundary="fc2")))
    assert all(re.search(rf"\b{name}\b", written) for name, *_ in vgg16("fc2"))


def test_the_boundary_stands_right_of_its_block():
    picture = draw_strip(vgg16("block4_pool"), boundary="block4_pool")
    line = picture.figure.axes[0].lines[0].get_xdata()[0]
    blocks = sorted((patch for patch in picture.figure.axes[0].patches if patch.get_height() > 5), key=Rectangle.get_x)
    assert blocks[13].get_x() + blocks[13].get_width() <= line <= blocks[14].get_x()


def test_wider_blocks_have_more_parameters_and_none_vanishes():
    blocks = sorted(vgg16("fc2"), key=lambda block: block[2])
    picture = draw_strip(blocks)
    drawn = sorted((patch for patch in picture.figure.axes[0].patches if patch.get_height() > 5), key=Rectangle.get_x)
    widths = [patch.get_width() for patch in drawn]
    assert len(widths) == 22
    assert widths == sorted(widths)
    assert min(widths) >= 10


@pytest.mark.parametrize("count", [1, 18, 40, 120])
def test_names_of_a_strip_never_overlap(count):
    blocks = [(f"layer{number}", "Block", 100 * number**2, number < count // 2) for number in range(count)]
    boundary = blocks[count // 2 - 1][0] if count > 1 else None
    picture = draw_strip(blocks, boundary=boundary)
    picture.figure.draw_without_rendering()
    names = [text for text in picture.figure.axes[0].texts if text.get_text().startswith("layer")]
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.x0)
    assert all(one.x1 <= other.x0 + 1.5 for one, other in pairwise(boxes))
    assert len(names) >= min(count, 15)
    assert {f"layer{number}" for number in (0, count - 1)} <= {text.get_text().split(" ")[0] for text in names}
    assert boxes[0].x0 >= 0
    assert boxes[-1].x1 <= 630


def test_alternating_parts_are_each_named_once():
    blocks = [(f"b{number}", "Block", 1000, number % 2 == 0) for number in range(6)]
    written = texts(draw_strip(blocks))
    assert sum(text.startswith("frozen:") for text in written) == 1
    assert sum(text.startswith("trainable:") for text in written) == 1


def test_a_strip_that_cannot_be_drawn_says_why():
    with pytest.raises(ValueError, match=r"No block is called 'fc_2'. Did you mean 'fc2'"):
        draw_strip(vgg16("fc2"), boundary="fc_2")
    with pytest.raises(ValueError, match="list of blocks is empty"):
        draw_strip([])


# freeze_profile


def cut_profile(*accuracies: float) -> FreezeProfile:
    """A network of convolutions that halve what they cost."""
    rows = [
        CutProfile(f"conv{place}", (8, 4, 4), 50, 10**6 >> place, 10**9 >> place, 8.0 / 2**place, accuracy)
        for place, accuracy in enumerate(accuracies)
    ]
    data = Features({row.boundary: torch.zeros(2, 8) for row in rows}, torch.arange(2), ("daisy", "roses"))
    return FreezeProfile(tuple(rows), data, data)


def test_each_cut_point_stands_at_its_accuracy_and_its_three_costs():
    profile = cut_profile(0.3, 0.6, 0.9, 0.8)
    picture = plots.freeze_profile(profile)
    panels = picture.figure.axes
    assert [panel.get_xlabel() for panel in panels] == ["trainable parameters", "size of the store", "seconds an epoch"]
    for panel, costs in zip(panels, ("trainable", "store_bytes", "seconds"), strict=True):
        (line,) = panel.lines
        assert line.get_xdata().tolist() == [getattr(row, costs) for row in profile.rows]
        assert line.get_ydata().tolist() == [0.3, 0.6, 0.9, 0.8]
        assert panel.get_ylim() == (0, 1)
    assert picture.alt.startswith("Best linear head: 90% at conv2. ")
    assert repr(picture) == "Picture('Accuracy at 4 cut points against what they cost')"


def test_the_choice_is_ringed_in_each_panel_and_named():
    picture = plots.freeze_profile(cut_profile(0.3, 0.6, 0.9), choice="conv1")
    for panel in picture.figure.axes:
        ring = panel.lines[-1]
        assert (ring.get_markerfacecolor(), ring.get_ydata().tolist()) == ("none", [0.6])
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["your choice: conv1"]
    assert "60% at conv1" in picture.alt
    assert "The choice that is marked: conv1 60% with 500,000 trainable parameters, 500 MB and 4 s." in picture.alt


def test_networks_are_told_apart_by_more_than_color():
    picture = plots.freeze_profile({"one": cut_profile(0.3, 0.6), "another": cut_profile(0.2, 0.4)}, choice="conv0")
    first, second, *rings = picture.figure.axes[0].lines
    assert first.get_marker() != second.get_marker()
    assert first.get_linestyle() != second.get_linestyle()
    assert [ring.get_ydata().tolist() for ring in rings] == [[0.3], [0.2]]
    assert "one: 60% at conv1; another: 40% at conv1" in picture.alt


def test_a_cut_point_with_nothing_behind_it_is_drawn_on_a_logarithmic_axis():
    profile = cut_profile(0.3, 0.6)
    rows = (profile.rows[0], replace(profile.rows[1], trainable=0))
    assert plots.freeze_profile(replace(profile, rows=rows)).encoded[1]


def test_a_choice_that_is_no_cut_point_names_its_neighbors():
    with pytest.raises(KeyError, match=r"no cut point 'cnov1' to mark. Did you mean 'conv1'"):
        plots.freeze_profile(cut_profile(0.3, 0.6), choice="cnov1")


def test_long_names_and_many_rows_keep_a_profile_small():
    many = {f"{'a rather long name ' * 6}{n}": cut_profile(*torch.linspace(0, 1, 20).tolist()) for n in range(3)}
    picture = plots.freeze_profile(many, choice="conv19")
    assert len(picture.encoded[1]) < 60_000
    picture.figure.draw_without_rendering()
    assert picture.figure.legends[0].get_window_extent().x1 <= 630


# bars


def test_bars_start_at_zero_and_are_as_long_as_their_values():
    picture = plots.bars({"small": 25, "large": 50}, "Twice as much", unit="s")
    small, large = picture.figure.axes[0].patches
    assert small.get_x() == large.get_x()
    assert large.get_width() == pytest.approx(2 * small.get_width())
    assert {"25 s", "50 s"} <= set(texts(picture))


def test_a_full_bar_of_percentages_is_100():
    half, full = (plots.bars({"a": value}, "A", unit="%").figure.axes[0].patches[0].get_width() for value in (50, 100))
    assert half == pytest.approx(full / 2, rel=0.05)


def test_bars_called_frozen_and_trainable_carry_their_colors():
    picture = plots.bars({"frozen": 134260544, "trainable": 20485}, "One in 6,500 is trained", unit="parameters")
    [frozen], [trainable] = patches(picture, FROZEN), patches(picture, TRAINABLE)
    assert frozen.get_hatch()
    assert not trainable.get_hatch()
    assert "134,260,544 parameters" in texts(picture)


def test_bars_refuse_negative_and_missing_values():
    with pytest.raises(ValueError, match="'b' is -1"):
        plots.bars({"a": 1, "b": -1}, "No")
    with pytest.raises(ValueError, match="'a' is nan"):
        plots.bars({"a": float("nan")}, "No")
    with pytest.raises(ValueError, match="there is no value"):
        plots.bars({}, "No")


def test_a_network_is_drawn_with_its_own_boundary_and_frozen_marks() -> None:
    layers = [torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)]
    net = Network.from_module(torch.nn.Sequential(*layers), [torch.zeros(1, 8)]).freeze("0")
    picture = plots.network_strip(net)
    assert "boundary: 0" in " ".join(texts(picture))
    assert "frozen: 1 with 54 parameters; trainable: 1 with 14 parameters" in picture.alt


def test_a_drawn_network_counts_as_its_summary_does() -> None:
    shared = torch.nn.Linear(4, 4)
    layers = [torch.nn.Linear(8, 4), torch.nn.BatchNorm1d(4), shared, torch.nn.Sigmoid(), shared, torch.nn.Linear(4, 2)]
    net = Network.from_module(torch.nn.Sequential(*layers), [torch.zeros(1, 8)]).freeze("0")
    summary = net.summary()
    title = f"{summary.trainable:,} of {summary.total:,} parameters are trainable"
    assert summary.total == 36 + 16 + 20 + 10
    assert title in plots.network_strip(net).alt
