from __future__ import annotations

import pytest
from torchvision import models

from tlkit import zoo
from tlkit.commands import catalog
from tlkit.files import downloads
from tlkit.files.downloads import FLOWER_PHOTOS, VGG16


def test_every_network_of_the_zoo_can_be_fetched_or_needs_no_download():
    assert catalog.files().keys() - {"photos"} == set(zoo.names()) - catalog.WITHOUT_DOWNLOAD.keys()


def test_the_lessons_come_first_and_are_known_in_full():
    files = catalog.files()
    assert [*files][:2] == [*catalog.LESSONS] == ["photos", "vgg16"]
    assert [files["photos"], files["vgg16"]] == [FLOWER_PHOTOS, VGG16]
    assert all(len(file.sha256) == 64 and file.size for file in catalog.LESSONS.values())


def test_no_two_files_share_a_name_and_each_has_a_size_and_a_hash():
    files = catalog.files().values()
    assert len({file.name for file in files}) == len(files)
    assert not [file for file in files if file.size_in_words == "size unknown"]


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "googlenet", "vit_b_16"])
def test_what_is_fetched_is_what_the_zoo_loads(name, monkeypatch):
    class Asked(Exception):
        pass

    def asked(remote):
        raise Asked(remote)

    monkeypatch.setattr(downloads, "fetch", asked)
    with pytest.raises(Asked) as caught:
        zoo.load(name)
    assert caught.value.args == (catalog.find(name),)


def test_networks_are_known_to_torchvision():
    assert catalog.find("resnet50").urls == (next(iter(models.ResNet50_Weights)).url,)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("vgg61", "nothing to fetch by the name 'vgg61'. Did you mean 'vgg"),
        ("photo", "Did you mean 'photos'? Expected is 'photos' or 'vgg16', or another of torchvision's networks"),
        ("timm/resnet18", "call tl.zoo.load('timm/resnet18') once; later calls need none"),
        ("../x", "nothing to fetch by the name '../x'. Expected is"),
    ],
)
def test_other_names_are_refused_in_a_sentence(name, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        catalog.find(name)
