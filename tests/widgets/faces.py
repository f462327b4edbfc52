"""What the widgets' tests share: nets, running a widget's code, and what a face that stands still must be."""

from __future__ import annotations

import re
from html import escape

import torch
from torch import nn

import tlkit as tl

VIEW = "application/vnd.jupyter.widget-view+json"
DROPPED = ("<style", "<script", "class=", "<svg")  # by viewers that do not trust a notebook


class At(tl.Listener):
    """Does something after some iterations."""

    def __init__(self, iteration, action):
        self.iteration, self.action = iteration, action

    def iteration_done(self, training):
        if training.iteration == self.iteration:
            self.action()


def chain():
    """A small convolutional network: a chain of four vertices and a flattening."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.Linear(8, 3),
    )
    return tl.Network.from_module(module, [torch.rand(1, 3, 8, 8)])


def residual():
    """`first` feeds `second` and, around it, the addition; `last` answers."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.first(x)
            return self.last(x + self.second(x))

    torch.manual_seed(0)
    return tl.Network.from_module(Residual(), [torch.rand(1, 4)], granularity="layer")


def run_code(code, **names):
    names = {"tl": tl, **names}
    exec(code, names)
    return names


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)


def check_face(widget):
    """A face is text and tables with inline styles; its pictures have words; it names the code."""
    bundle = widget._repr_mimebundle_()
    face = bundle["text/html"]
    assert bundle["text/plain"] == repr(widget)
    assert VIEW in bundle
    assert escape(widget.code) in face
    assert [absent for absent in DROPPED if absent in face] == []
    assert all('alt="' in tag for tag in re.findall("<img[^>]*>", face))
    return face


CLASSES = ("daisy", "roses", "tulips")


def features(rows=60, shape=(8,), seed=0, noise=0.5):
    """Features of three classes that lie around three centers."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    centers = torch.randn(3, *shape, generator=torch.Generator().manual_seed(99))
    return tl.Features(
        {"cut": centers[labels] + noise * torch.randn(rows, *shape, generator=generator)}, labels, CLASSES
    )
