"""What networks say of one picture, the most probable classes first."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tlkit.graph.network import Network
from tlkit.images.decoding import Geometry, decode, explain_broken

__all__ = ["Answer", "rank_answers", "are_scores", "ask", "check_classifier", "read_picture"]


class Answer(NamedTuple):
    """A class, and how probable the network takes it to be."""

    name: str
    probability: float


def check_classifier(net: Network) -> None:
    """Refuse a network that cannot be asked about a photo.

    Raises
    ------
    TypeError, ValueError
        When it is no network, takes no images, or does not answer with one row of classes.
    """
    if not isinstance(net, Network):
        msg = f"A photo is shown to a tl.Network, got {type(net).__name__}. Network.from_module(module) imports one."
        raise TypeError(msg)
    if net.preprocessing is None:
        msg = (
            "The network has no preprocessing, so nobody knows which size and colors it expects of a photo. Set "
            "net.preprocessing = tl.Preprocessing(...)."
        )
        raise ValueError(msg)
    shapes = [net.output_shapes()[name] for name in net.outputs]
    if len(net.inputs) > 1 or len(shapes) > 1 or len(shapes[0]) != 1 or shapes[0][0] < 2:
        msg = (
            f"A photo is shown to a network with one input that answers with one row of classes; this one reads "
            f"{', '.join(net.inputs)} and answers with {', '.join(map(str, shapes))} numbers."
        )
        raise ValueError(msg)


def read_picture(picture: str | os.PathLike[str] | bytes, net: Network) -> Tensor:
    """Decode a picture file, or its bytes, as a network expects it: uint8 pixels of shape (3, size, size).

    Raises
    ------
    ValueError
        When it is no picture, with the reason.
    """
    file = io.BytesIO(picture) if isinstance(picture, bytes) else Path(picture)
    try:
        return torch.from_numpy(decode(file, Geometry.of(net.preprocessing)))
    except Exception as error:  # a decoder that meets broken bytes may raise anything
        what = "Your file" if isinstance(picture, bytes) else f"The file {picture}"
        msg = f"{what} cannot be read as a picture: {explain_broken(file, error)}. Choose a JPEG, PNG or WebP file."
        raise ValueError(msg) from error


def ask(net: Network, pixels: Tensor) -> Tensor:
    """Return what a network answers to uint8 pixels of shape (3, size, size): one number for each class.

    Raises
    ------
    RuntimeError
        When the network is being trained: asked in between, it would learn from a wrong state.
    """
    if net.training:
        msg = "The network is being trained. Wait until training has ended, or stop it. (By hand: net.eval().)"
        raise RuntimeError(msg)
    place = next(net.parameters(), torch.empty(0)).device
    with torch.no_grad():
        return net(pixels[None].to(place))[0].float().cpu()


def are_scores(answer: Tensor) -> bool:
    """Say whether answers are scores that a softmax makes probabilities of, as a network of the zoo gives them."""
    return bool(answer.min() < -0.01) or bool(answer.max() > 1.01)


def rank_answers(net: Network, said: Tensor, n: int = 5) -> list[Answer]:
    """Return the `n` most probable classes, all of them where there are fewer, from what `ask` returned.

    A network that knows no names of classes numbers them.
    """
    probabilities = said.softmax(0) if are_scores(said) else said
    order = probabilities.argsort(descending=True, stable=True)[:n].tolist()
    names = net.classes or [f"class {number}" for number in range(len(said))]
    return [Answer(names[number], float(probabilities[number])) for number in order]
