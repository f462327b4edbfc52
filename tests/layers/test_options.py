from __future__ import annotations

import copy

import pytest

import tlkit as tl
from tlkit.layers.descriptions import LayerDescription
from tlkit.layers.options import UNSET, Options, Settings, to_plain


def test_what_was_not_given_is_neither_removed_nor_a_value():
    options = Options(l2=None, dropout=0.5)
    assert options.given() == {"l2": None, "dropout": 0.5}
    assert options.l1 is UNSET
    assert copy.deepcopy(options).l1 is copy.copy(options).l1 is UNSET
    assert repr(options) == "Options(dropout=0.5, l2=None)"


def test_settings_keep_what_was_not_given_and_lose_what_was_removed():
    before = Settings(updater=tl.Adam(0.1), l1=0.1, l2=0.2)
    assert Options(l1=0.3, l2=None).settings(before) == Settings(updater=tl.Adam(0.1), l1=0.3)
    assert Options().settings(before) == before


def test_plain_data_hold_no_objects_of_ours():
    options = Options(updater=tl.Adam(0.1), constraints=[tl.MaxNorm(2.0)], weight_init=tl.Constant(1.0))
    assert options.to_dict() == {
        "weight_init": {"distribution": "Constant", "value": 1.0},
        "updater": tl.Adam(0.1).to_dict(),
        "constraints": [{"constraint": "MaxNorm", "maximum": 2.0}],
    }
    assert to_plain({"*": tl.Sgd(0.1)}) == {"*": {"updater": "Sgd", "lr": 0.1}}
    assert Options(**options.to_dict()) == options


def test_the_learning_rate_is_asked_for_where_it_lives():
    with pytest.raises(TypeError, match=r"Options has no option 'lr'. The learning rate lives in the updater"):
        Options(lr=0.1)
    with pytest.raises(TypeError, match=r"has no option 'dropuot'. Did you mean 'dropout'"):
        Options(dropuot=0.1)


def test_every_layer_description_takes_the_common_options():
    for description in (tl.Dense, tl.Output, tl.Conv2d):
        assert issubclass(description, LayerDescription)
        assert description(3, l2=0.1, updater=tl.Sgd(0.1)).given().keys() >= {"l2", "updater"}
