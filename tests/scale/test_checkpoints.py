"""Checkpoints of a fit."""

from __future__ import annotations

import pytest
import torch
from nets import blobs, classifier

import tlkit as tl
from tlkit.scale.checkpoints import Progress, read_progress, restore_checkpoint, write_checkpoint

PROGRESS = Progress(epoch=2, epochs_seen=7, examples=48, losses=[1.5, 0.5], stopped="interrupted", ended=True)


def trained() -> tl.Network:
    net = classifier(4, 6, 3, updater=tl.Adam(0.05))
    tl.fit(net, blobs(), 2, progress=False)
    return net


def test_weights_updaters_and_progress_come_back(tmp_path):
    net, other = trained(), classifier(4, 6, 3, updater=tl.Adam(0.05))
    write_checkpoint(net, PROGRESS, tmp_path / "fit")
    assert read_progress(tmp_path / "fit") == restore_checkpoint(other, tmp_path / "fit") == PROGRESS
    assert other.epochs_seen == 7
    other.epochs_seen = net.epochs_seen  # of both, the next epoch has the same order
    for one in (net, other):
        tl.fit(one, blobs(), progress=False)
    torch.testing.assert_close(dict(other.state_dict()), dict(net.state_dict()), rtol=0, atol=0)


def test_a_checkpoint_holds_no_pickle_and_no_other_file_is_read(tmp_path):
    write_checkpoint(trained(), PROGRESS, tmp_path / "fit")
    assert (tmp_path / "fit").read_bytes()[8:9] == b"{"  # safetensors: a length, then JSON
    (tmp_path / "pickle").write_bytes(b"\x80\x04N.")
    with pytest.raises(Exception, match="header"):
        restore_checkpoint(classifier(4, 6, 3), tmp_path / "pickle")
