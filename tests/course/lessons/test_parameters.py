"""Parameters of notebooks: names and literals, given by the kind of their default."""

from __future__ import annotations

import pytest

from tlkit.course.lessons import parameters


def test_parameters_are_names_and_literals():
    assert parameters.assigned('IMAGES = "drawn"  # or a folder\nEPOCHS: int = -1\nSIZES = [1, 2]') == {
        "IMAGES": "drawn",
        "EPOCHS": -1,
        "SIZES": [1, 2],
    }
    for source in ('OUT = f"run-{EPOCHS}"', "import os", "A, B = 1, 2"):
        with pytest.raises(parameters.ParameterError, match="not a name and a literal"):
            parameters.assigned(source)


def test_typed_values_take_the_kind_of_the_default(folder):
    assert parameters.typed("EPOCHS", "3", 1) == 3
    rate = parameters.typed("RATE", "1", 0.5)
    assert rate == 1.0
    assert isinstance(rate, float)
    assert parameters.typed("IMAGES", "13", "drawn") == "13"
    assert parameters.typed("SIZE", "None", None) is None
    with pytest.raises(parameters.ParameterError, match="EPOCHS is a whole number, and 'five' is not"):
        parameters.typed("EPOCHS", "five", 1)
    with pytest.raises(parameters.ParameterError, match="-p EPOCHS 1"):
        parameters.typed("EPOCHS", "True", 1)


def test_a_typed_path_is_meant_from_the_current_folder(folder):
    (folder.parent / "photos").mkdir()
    (folder.parent / "photos.tgz").touch()
    assert parameters.typed("IMAGES", "photos.tgz", "drawn") == str(folder.parent / "photos.tgz")
    assert parameters.typed("IMAGES", "./photos", "drawn") == str(folder.parent / "photos")
    assert parameters.typed("IMAGES", "photos", "drawn") == "photos"
    assert parameters.typed("BACKBONE", "timm/resnet18", "small") == "timm/resnet18"


def test_each_notebook_receives_the_parameters_it_has():
    available = {"a": {"EPOCHS": 1, "SEED": 2}, "b": {"EPOCHS": 5}}
    assert parameters.matched([("EPOCHS", "3"), ("SEED", "4")], available) == {
        "a": {"EPOCHS": 3, "SEED": 4},
        "b": {"EPOCHS": 3},
    }


def test_unknown_parameter_names_its_neighbors():
    with pytest.raises(parameters.ParameterError, match=r"04_x has no parameter 'EPOCH'\. Did you mean 'EPOCHS'\?"):
        parameters.matched([("EPOCH", "3")], {"04_x": {"EPOCHS": 1}})
    with pytest.raises(parameters.ParameterError, match=r"None of the 2 notebooks has a parameter 'epochs'.*'EPOCHS'"):
        parameters.matched([("epochs", "3")], {"a": {"EPOCHS": 1}, "b": {}})
