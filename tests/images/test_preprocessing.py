from __future__ import annotations

import json

import pytest
import torch
from torchvision import models
from torchvision.transforms.functional import normalize

from tlkit.images.preprocessing import Preprocessing


def test_pixels_are_scaled_and_normalized_as_torchvision_does():
    images = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8)
    chosen = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    found = chosen(images)
    assert found.dtype == torch.float32
    assert torch.allclose(found, normalize(images.float() / 255, chosen.mean, chosen.std), atol=1e-6)


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_settings_are_those_of_the_weights(name):
    weights = next(iter(models.get_model_weights(name)))
    transform = weights.transforms()
    found = Preprocessing.from_torchvision(weights)
    assert [found.size] == transform.crop_size
    assert [found.resize] == transform.resize_size
    assert found.interpolation == transform.interpolation.value
    assert found.mean == tuple(transform.mean)
    assert found.std == tuple(transform.std)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_base_patch16_224", "tf_efficientnet_b3"])
def test_settings_of_timm_are_those_of_its_own_transform(name):
    import timm
    from timm.data import create_transform, resolve_data_config

    config = timm.get_pretrained_cfg(name).to_dict()
    resize, crop, *_ = create_transform(**resolve_data_config(pretrained_cfg=config)).transforms
    found = Preprocessing.from_timm(config)
    assert (found.size, found.size) == tuple(crop.size)
    assert found.resize == resize.size
    assert found.interpolation == resize.interpolation.value
    assert found.mean == tuple(config["mean"])


def test_settings_survive_as_json():
    chosen = Preprocessing(size=160, resize=180, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(1, 1, 1))
    assert Preprocessing.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": 300}, "crop cannot be larger than the resized image: size=300, resize=256"),
        ({"size": 0}, "size=0"),
        ({"mean": (0.5,)}, r"a number for red, green and blue.*\(0\.5,\)"),
        ({"std": (0.2, 0.2, 0.0)}, "std above 0"),
    ],
)
def test_impossible_settings_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Preprocessing(**wrong)
