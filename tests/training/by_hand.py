"""Training written out in plain torch, to compare with."""

from __future__ import annotations

import torch
from nets import blobs
from torch import nn
from torch.nn import functional as F

import tlkit as tl


def fit(net, data=None, **options):
    return tl.fit(net, blobs() if data is None else data, **{"progress": False} | options)


def plain(net):
    """The same layers as a plain torch module that answers before the softmax."""
    parts = []
    for name, vertex in net.vertices.items():
        layer = nn.Linear(vertex.module.in_features, vertex.module.out_features)
        layer.load_state_dict({key: vertex.module.state_dict()[key].clone() for key in ("weight", "bias")})
        parts += [layer] if name in net.outputs else [layer, nn.ReLU()]
    return nn.Sequential(*parts)


def by_hand(module, data, optimizers, *, batch_size=8, epochs=3):
    x, y = data
    for _ in range(epochs):
        for rows in torch.arange(len(x)).split(batch_size):
            for optimizer in optimizers:
                optimizer.zero_grad()
            F.cross_entropy(module(x[rows]), y[rows]).backward()
            for optimizer in optimizers:
                optimizer.step()
    return list(module.parameters())


def assert_same_weights(net, expected):
    for ours, theirs in zip(net.parameters(), expected, strict=True):
        assert torch.equal(ours, theirs)


HAND_WRITTEN = {
    "sgd": (tl.Sgd(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "nesterovs": (tl.Nesterovs(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    "adam": (tl.Adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
}
