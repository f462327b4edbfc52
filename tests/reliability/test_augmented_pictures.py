"""Random augmentation in front of a boundary: refused, or kept as fixed versions that train."""

from __future__ import annotations

import pytest
import samples
import torch
from torchvision.transforms import v2

import tlkit as tl
from tlkit.helper import TransferLearningHelper

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_shards")]  # reads whole sets again and again

FLIP = v2.RandomHorizontalFlip()


@pytest.fixture
def helper():
    return samples.make_helper()


@pytest.fixture
def pictures(photos, helper):
    return samples.read_photos(photos, helper)


def featurize(helper, data, **options):
    return helper.featurize(data, progress=False, **options)


def test_augmented_pictures_are_refused_with_both_ways_out(helper, pictures, tmp_path):
    with pytest.raises(ValueError, match="change at random each time they are read") as error:
        featurize(helper, pictures.augmented(FLIP), to=tmp_path / "store")
    assert "'block4_pool' are computed once" in str(error.value)
    assert "helper.featurize(images.augmented(transform), views=4)" in str(error.value)
    assert "tl.fit(net, images)" in str(error.value)
    assert not (tmp_path / "store").exists()


class Noisy:
    """A data set of a user's own that adds noise at each reading."""

    def __init__(self, pictures):
        self.pictures, self.labels, self.classes = pictures, pictures.labels, pictures.classes

    def __len__(self):
        return len(self.pictures)

    def batches(self, batch_size, order=None):
        for x, y in self.pictures.batches(batch_size, order):
            yield (x + torch.randint(0, 9, x.shape)).to(torch.uint8), y


def test_any_data_that_change_at_each_reading_are_refused(helper, pictures):
    with pytest.raises(ValueError, match="change at random each time they are read"):
        featurize(helper, Noisy(pictures))


def test_views_of_pictures_that_do_not_change_are_refused(helper, pictures):
    with pytest.raises(ValueError, match="these are the same each time"):
        featurize(helper, pictures, views=2)


def test_views_are_stored_once_and_found_again(helper, pictures, tmp_path):
    options = {"to": tmp_path / "store", "views": 3}
    store = featurize(helper, pictures.augmented(FLIP), **options)
    assert len(store) == 3 * len(pictures)
    assert store.classes == pictures.classes
    again = featurize(TransferLearningHelper(helper.network), pictures.augmented(v2.RandomHorizontalFlip()), **options)
    assert (again.rows_computed, again.reasons) == (0, ())


def test_a_view_that_changes_nothing_has_the_features_of_the_picture(helper, pictures):
    same = featurize(helper, pictures.augmented(v2.Identity()), views=2)
    plain = featurize(helper, pictures)
    for name, expected in plain.tensors.items():
        assert torch.allclose(same.tensors[name], torch.cat([expected, expected]), atol=1e-5)


def test_another_augmentation_is_computed_again(helper, pictures, tmp_path):
    options = {"to": tmp_path / "store", "views": 2}
    featurize(helper, pictures.augmented(v2.Identity()), **options)
    store = featurize(helper, pictures.augmented(v2.RandomInvert(1.0)), **options)
    assert store.rows_computed == len(store)
    assert store.reasons


def test_views_train_the_unfrozen_part(helper, pictures):
    features = featurize(helper, pictures.augmented(v2.RandomCrop(pictures.size, padding=2)), views=4)
    assert len(features) == 4 * len(pictures)
    net = (
        tl.TransferLearning(helper.network)
        .remove_output_layer()
        .add_layer("flowers", tl.Output(len(pictures.classes)), list(helper.network.vertices)[-2])
        .build()
    )
    history = TransferLearningHelper(net).fit_featurized(features, epochs=5, progress=False)
    assert history.losses[-1] < history.losses[0]
