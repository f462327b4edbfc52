"""Exercises of notebook 01: the transfer learning helper."""

from __future__ import annotations

from typing import Any

from tlkit.course.checks import NotYet, as_network, as_number, check_output, exercise
from tlkit.errors import quoted
from tlkit.graph.network import Network
from tlkit.memory import counted

__all__: list[str] = []


@exercise("01.1", "3,000 photos, 512 maps of 7 by 7 numbers each, four bytes a number: how many bytes?")
def bytes_of_features(answer: Any) -> str:
    number = as_number(answer)
    one, right = 512 * 7 * 7 * 4, 512 * 7 * 7 * 4 * 3000
    if number == right:
        return f"{one:,} bytes a photo, 3,000 times: {right:,} bytes, or {right / 1e6:.0f} MB."
    if number == right // 4:
        missing = f"{number:,} are the numbers. Each of them takes four bytes."
    elif number in (one, one // 4):
        missing = f"{number:,} is one photo's share. There are 3,000."
    elif number == 512 * 7 * 4 * 3000:
        missing = "a map has a height of 7 and a width of 7, so 49 numbers."
    else:
        missing = f"{number:,} is not it. Multiply maps, height, width, bytes a number, and photos."
    raise NotYet(missing)


@exercise(
    "01.2", "an epoch takes 60 s on images and 1 s on features, featurizing 75 s: from which number of epochs on?"
)
def epochs_until_it_pays(answer: Any) -> str:
    number = as_number(answer)
    if number == 2:
        return "two epochs take 120 s on images, and 75 + 2 × 1 = 77 s with the helper. One epoch would not pay."
    if number < 2:
        epochs = counted(number, "epoch")
        missing = f"with {epochs} the helper takes {75 + number} s, and the whole network {60 * number} s."
    else:
        missing = f"{number} epochs pay, but fewer do, too: compare 60 s and 75 s + 1 s an epoch from 1 upwards."
    raise NotYet(missing)


@exercise("01.3", "from imagenet: a new head, and a helper with two feature tensors, bottleneck and penultimate.")
def two_boundaries(answer: Any, imagenet: Network, flowers: Any) -> str:
    net = as_network(answer)
    check_output(net, len(flowers.classes))
    if not net.frozen:
        missing = "nothing is frozen in this network. Name the last frozen vertex: .set_feature_extractor(name)."
        raise NotYet(missing)
    places = imagenet.landmarks
    wanted, found = (places.bottleneck, places.penultimate), net.boundary()
    if set(found) == set(wanted):
        return f"the unfrozen part reads {quoted(found)}: {len(found)} tensors for each image."
    if set(found) < set(wanted):
        lacks = next(name for name in wanted if name not in found)
        missing = f"nothing unfrozen reads '{lacks}'. Add a vertex that does, and let the head read that vertex."
    else:
        missing = f"the unfrozen part reads {quoted(found)}; it should read {quoted(wanted)} and nothing else."
    raise NotYet(missing)
