"""Augmentation: pictures that change at each reading, and fixed versions of them."""

from __future__ import annotations

import random

import pytest
import torch
from torchvision.transforms import v2

import tlkit as tl
from tlkit.images.augmenting import Views

FLIP = v2.RandomHorizontalFlip()


@pytest.fixture(scope="module")
def pictures():
    return tl.images.load("drawn", per_class=4, size=32).train


def pixels_of(data, batch_size=5, order=None):
    return torch.cat([x for x, _ in data.batches(batch_size, order)])


def test_each_reading_gives_each_picture_or_its_mirror_image(pictures):
    torch.manual_seed(0)
    augmented = pictures.augmented(FLIP)
    one, other, plain = pixels_of(augmented), pixels_of(augmented), pictures.pixels()
    assert not torch.equal(one, other)
    for found, picture in zip(one, plain, strict=True):
        assert torch.equal(found, picture) or torch.equal(found, picture.flip(-1))
    assert torch.equal(augmented.labels, pictures.labels)
    assert repr(augmented) == f"AugmentedImages: {len(pictures)} images, changed by {FLIP!r} at each reading"


def test_a_whole_network_trains_on_augmented_pictures(pictures):
    net = tl.Network.from_module(
        torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(2 * 30 * 30, 2)),
        torch.zeros(1, 3, 32, 32),
    )
    net.preprocessing = tl.Preprocessing(size=32, resize=36)
    net = tl.TransferLearning(net).remove_output_layer().add_layer("out", tl.Output(5), list(net.vertices)[-2]).build()
    augmented = pictures.augmented(v2.Compose([FLIP, v2.ColorJitter(0.3)]))
    assert len(tl.fit(net, augmented, epochs=2, batch_size=8, progress=False).losses) == 4


@pytest.mark.parametrize(
    ("transform", "got"),
    [
        (v2.ToDtype(torch.float32, scale=True), "float32 of shape (3, 32, 32)"),
        (v2.Resize(16), "uint8 of shape (3, 16, 16)"),
        (lambda picture: picture.numpy(), "ndarray"),
    ],
)
def test_a_transform_that_returns_something_else_is_named(pictures, transform, got):
    with pytest.raises(ValueError, match=r"turns uint8 of shape \(3, 32, 32\) into another such picture") as error:
        next(pictures.augmented(transform).batches(2))
    assert f"returned {got}." in str(error.value)


def test_views_are_the_same_in_any_order_and_batch_size(pictures):
    views = pictures.augmented(v2.RandomResizedCrop(32, antialias=True))
    views = Views(views, 3)
    expected = pixels_of(views, batch_size=7)
    order = torch.randperm(len(views))
    assert torch.equal(pixels_of(views, 4, order), expected[order])
    assert torch.equal(views.labels, pictures.labels.repeat(3))
    assert not torch.equal(expected[: len(pictures)], expected[len(pictures) : 2 * len(pictures)])
    assert repr(views) == f"Views: 3 versions of each of {len(pictures)} images"


def test_another_picture_leaves_the_versions_of_the_others_alone(pictures):
    some = Views(pictures[:6].augmented(FLIP), 2)
    fewer = Views(pictures[1:6].augmented(FLIP), 2)
    rows = torch.tensor([1, 2, 3, 4, 5, 7, 8, 9, 10, 11])
    assert torch.equal(pixels_of(some)[rows], pixels_of(fewer))


def test_another_seed_gives_other_versions(pictures):
    crop = pictures.augmented(v2.RandomResizedCrop(32, antialias=True))
    assert not torch.equal(pixels_of(Views(crop, 1)), pixels_of(Views(crop, 1, seed=1)))


def test_views_leave_the_random_numbers_of_the_caller_alone(pictures):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    pixels_of(Views(pictures.augmented(FLIP), 2))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "4"])
def test_a_number_of_views_that_is_none_is_refused(pictures, count):
    with pytest.raises(ValueError, match=r"a whole number from 1 on; got"):
        Views(pictures.augmented(FLIP), count)


def test_random_numbers_that_do_not_come_from_torch_are_refused(pictures):
    with pytest.raises(ValueError, match=r"takes random numbers from elsewhere than torch"):
        Views(pictures.augmented(lambda picture: picture // random.randint(2, 100)), 2)
