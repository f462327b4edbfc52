"""Which weights were learned in an earlier training, and what batch normalization does about it."""

from __future__ import annotations

import pytest
import torch
from nets import blobs, furthest, moved, seeded, weights
from torch import nn

import tlkit as tl

QUIET = {"batch_size": 8, "progress": False}


def source(*, learned: bool = False) -> tl.Network:
    """Two blocks with batch normalization and a head, random or trained elsewhere."""
    with seeded(1):
        blocks = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()) for _ in range(2)]
        module = nn.Sequential(*blocks, nn.Linear(4, 3))
    if learned:
        for _ in range(5):
            module.train()(blobs()[0])
    return tl.Network.from_module(module, torch.zeros(1, 4))


def ready(net: tl.Network, **options) -> tl.Network:
    """Give a network a loss."""
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.1), seed=1, **options)
    return tl.TransferLearning(net).fine_tune_configuration(tuning).add_layer("answer", tl.Loss()).build()


def vertices_whose_statistics_move(net: tl.Network) -> set[str]:
    before = weights(net)
    tl.fit(net, blobs(), **QUIET)
    after = net.state_dict()
    return {key.partition(".")[0] for key in before if "running" in key and not torch.equal(before[key], after[key])}


def test_random_weights_are_fresh_and_learn_their_statistics():
    net = ready(source())
    assert net.fresh == set(net.vertices)
    assert vertices_whose_statistics_move(net) == {"0_0", "1_0"}


def test_an_imported_module_with_learned_statistics_keeps_them_while_its_weights_train():
    net = ready(source(learned=True))
    assert net.fresh == {"2", "answer"}
    before = weights(net)
    assert vertices_whose_statistics_move(net) == set()
    assert moved(net, before) == {"0_0", "1_0", "2"}


@pytest.mark.parametrize(("learned", "fixed"), [(True, False), (False, True)])
def test_the_option_says_otherwise(learned, fixed):
    net = ready(source(learned=learned), fixed_statistics=fixed)
    assert vertices_whose_statistics_move(net) == (set() if fixed else {"0_0", "1_0"})
    again = tl.TransferLearning(net).fine_tune_configuration(tl.FineTuneConfiguration(fixed_statistics=None)).build()
    assert again.vertices["0_0"].settings.fixed_statistics is None


def test_a_training_in_several_calls_is_one_training_to_the_last_bit():
    at_once, in_calls = ready(source()), ready(source())
    losses = tl.fit(at_once, blobs(), epochs=4, **QUIET).losses
    assert [loss for _ in range(4) for loss in tl.fit(in_calls, blobs(), **QUIET).losses] == losses
    assert furthest(weights(at_once), weights(in_calls)) == 0


def test_a_network_from_scratch_trains_as_a_loop_by_hand_does():
    net, (x, labels) = ready(source()), blobs()
    module = source().to_module().train()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    losses = []
    for _ in range(6):
        loss = nn.functional.cross_entropy(module(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    history = tl.fit(net, (x, labels), epochs=6, batch_size=len(x), shuffle=False, progress=False)
    assert history.losses == losses


def test_a_build_ends_the_training_of_what_it_takes_over_and_new_layers_are_fresh():
    trained = ready(source())
    tl.fit(trained, blobs(), **QUIET)
    assert "0_0" in trained.fresh, "a later call goes on with the same training"
    net = (
        tl.TransferLearning(trained)
        .n_out_replace("1_0", 6)
        .remove_vertex_and_connections("answer")
        .add_vertex("norm", tl.BatchNorm(), "2")
        .add_layer("new", tl.Loss(), "norm")
        .set_outputs("new")
        .build()
    )
    assert net.fresh == {"1_0", "2", "norm", "new"}
    assert vertices_whose_statistics_move(net) == {"1_0", "norm"}


def test_a_frozen_block_that_never_trained_is_still_fresh_after_a_build():
    net = ready(source()).freeze("0_0")
    tl.fit(net, blobs(), **QUIET)
    assert tl.TransferLearning(net).build().fresh == {"0_0"}


def test_a_training_can_be_said_to_be_over():
    net = ready(source())
    tl.fit(net, blobs(), **QUIET)
    assert net.mark_learned("0_0").fresh == set(net.vertices) - {"0_0"}
    assert vertices_whose_statistics_move(net) == {"1_0"}
    assert net.mark_learned().fresh == frozenset()


def test_the_parts_of_a_split_network_know_what_is_fresh():
    net = ready(source(learned=True)).freeze("0_0")
    net.train()
    helper = tl.TransferLearningHelper(net)
    assert helper.unfrozen_network.fresh == {"2", "answer"}
    before = weights(net)
    helper.fit_featurized(helper.featurize(blobs(), progress=False), **QUIET)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items() if "running" in key)


@pytest.mark.slow  # loads a network of the zoo
def test_weights_of_the_zoo_and_of_a_file_are_learned_and_a_head_is_fresh():
    net = tl.zoo.load()
    assert net.fresh == frozenset()
    assert tl.zoo.load("squeezenet1_1", weights=None).fresh
    places = net.landmarks
    edits = tl.TransferLearning(net).remove_vertex_keep_connections(places.head)
    built = edits.add_layer(places.head, tl.Output(3), places.penultimate).build()
    assert built.fresh == {places.head}
    norms = [part for part in built.train().modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    assert not any(part.training for part in norms)


@pytest.mark.parametrize("updater_state", [False, True])
def test_a_saved_training_is_over_unless_its_updaters_go_on(updater_state, tmp_path):
    net = ready(source()).freeze("0_0")
    tl.fit(net, blobs(), **QUIET)
    path = tl.save(net, tmp_path / "net.tlk", updater_state=updater_state)
    loaded = tl.load(path, source())
    never_trained = {"0_0"}
    assert loaded.fresh == (net.fresh if updater_state else never_trained)
    moving = vertices_whose_statistics_move(loaded)
    assert moving == ({"1_0"} if updater_state else set())
    if updater_state:
        tl.fit(net, blobs(), **QUIET)
        assert furthest(weights(net), weights(loaded)) == 0
