"""Where the networks of timm keep their heads, and what the README's recipe makes of each: one of every family.

The table lies in tests/fixtures/timm_landmarks.json; `describe(name)` gives an entry of it. All of it is compared with
``TLKIT_TEST_SLOW=1``, which takes some minutes, and a few names otherwise.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import tlkit as tl

TABLE = json.loads((Path(__file__).parents[1] / "fixtures" / "timm_landmarks.json").read_text(encoding="utf-8"))
SAMPLE = (
    "test_byobnet", "test_convnext", "test_mambaout", "test_resnet", "test_vit", "tnt_s_legacy_patch16_224",
    "pit_ti_224", "levit_128s", "deit_tiny_distilled_patch16_224", "efficientformer_l1", "vit_small_patch16_dinov3",
    "convnext_tiny.dinov3_lvd1689m", "hiera_tiny_224.mae", "vit_base_patch16_siglip_224", "dla46x_c",
)  # fmt: skip


def describe(name: str) -> dict[str, Any]:
    """Return the landmarks of a network without values, and what became of the README's recipe."""
    with torch.device("meta"):
        try:
            net = tl.zoo.load(f"timm/{name}", weights=None)
        except ValueError as error:
            return {"error": str(error)}
        places = net.landmarks
        found = {**asdict(places), "heads": list(places.heads)}
        try:
            built = (
                tl.TransferLearning(net)
                .set_feature_extractor(places.penultimate)
                .remove_vertex_keep_connections(places.head)
                .add_layer(places.head, tl.Output(5), places.penultimate)
                .build()
            )
            return {**found, "recipe": list(built.output_shapes()[built.outputs[0]])}
        except (TypeError, ValueError) as error:
            scope = {"tl": tl, "net": net, "n": 5}
            exec(tl.zoo.explain_head(net), scope)
            built = scope["edits"].build()
            return {**found, "recipe": str(error), "explained": list(built.output_shapes()["predictions"])}


def check(name: str) -> None:
    expected, found = TABLE[name], describe(name)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        if isinstance(value, str) and key in ("error", "recipe"):
            assert value.startswith(expected[key])
        else:
            assert value == expected[key], key


@pytest.mark.slow  # traces fifteen networks
@pytest.mark.parametrize("name", SAMPLE)
def test_landmarks_are_right_or_absent_and_the_recipe_passes_or_says_why(name):
    check(name)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TLKIT_TEST_SLOW") != "1", reason="takes some minutes (TLKIT_TEST_SLOW=1)")
@pytest.mark.parametrize("name", sorted(set(TABLE) - set(SAMPLE)))
def test_landmarks_of_every_family_are_right_or_absent(name):
    check(name)


def test_every_outcome_is_a_built_head_or_a_sentence_that_leads_to_one():
    assert len(TABLE) >= 120
    built = {name: entry for name, entry in TABLE.items() if "error" not in entry}
    assert len(TABLE) - len(built) <= 1
    for name, entry in built.items():
        assert entry.get("explained", entry["recipe"]) == [5], name
        assert (entry["head"] is None) == (len(entry["heads"]) != 1)
        assert entry["fine_tune_from"] != entry["bottleneck"] or entry["bottleneck"] is None


def test_the_recipe_for_a_network_without_a_head_trains_the_new_one_alone():
    net = tl.zoo.load("timm/test_vit", weights=None)
    features = tl.TransferLearning(net).remove_vertex_and_connections("head").set_outputs("getitem").build()
    features.landmarks = tl.zoo.find_landmarks(features, n_classes=0)
    places = features.landmarks
    assert (places.head, places.heads, places.penultimate) == (None, (), "getitem")
    edits = tl.TransferLearning(features).set_feature_extractor(places.penultimate)
    with pytest.raises(TypeError, match=r"got None\. A landmark is None .*tl\.zoo\.explain_head"):
        edits.remove_vertex_keep_connections(places.head)
    scope = {"tl": tl, "net": features, "n": 3}
    exec(tl.zoo.explain_head(features), scope)
    built = scope["edits"].set_feature_extractor(places.penultimate).build()
    assert set(built.vertices) - built.frozen == {"predictions"}
    assert built.landmarks.head == "predictions"
