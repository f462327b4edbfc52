import pytest
import torch
from nets import blobs, classifier, furthest, moved, weights

import tlkit as tl
from tlkit.training.loop import Training


class Scripted(tl.EarlyStopping):
    """Early stopping that is told the accuracies instead of measuring them, and notes the weights it saw."""

    def __init__(self, accuracies, **options):
        super().__init__(None, **options)
        self.script = list(accuracies)
        self.seen = []


@pytest.fixture
def scripted(monkeypatch):
    def accuracy(training, data):
        for listener in Scripted.alive:
            listener.seen.append(weights(training.network))
        return Scripted.alive[0].script.pop(0)

    monkeypatch.setattr("tlkit.training.listeners._note_accuracy", accuracy)

    def make(*accuracies, **options):
        listener = Scripted(accuracies, **options)
        Scripted.alive = [listener]
        return listener

    return make


def fit(net, *listeners, epochs=1, **options):
    return tl.fit(net, blobs(), epochs, batch_size=8, listeners=listeners, progress=False, **options)


# -- evaluating -----------------------------------------------------------------------------------------------------


def test_evaluate_every_notes_the_accuracy_where_it_was_asked_to_and_at_the_end():
    history = fit(classifier(4, 3), tl.EvaluateEvery(2, blobs()), epochs=2, max_iterations=5)
    assert [iteration for iteration, _ in history.evaluations] == [2, 4, 5]
    assert all(0 <= accuracy <= 1 for _, accuracy in history.evaluations)


def test_evaluate_every_measures_the_weights_of_that_moment():
    net = classifier(4, 8, 3)
    history = fit(net, tl.EvaluateEvery(3, blobs()), epochs=20)
    assert history.evaluations[-1] == (60, tl.evaluate(net, blobs()).accuracy)
    assert history.evaluations[0][1] < history.evaluations[-1][1]


def test_evaluating_does_not_change_how_training_goes_on():
    plain, watched = classifier(4, 16, 3, dropout=0.5), classifier(4, 16, 3, dropout=0.5)
    fit(plain, epochs=2)
    fit(watched, tl.EvaluateEvery(1, blobs()), epochs=2)
    assert furthest(weights(plain), weights(watched)) == 0


def test_evaluate_every_needs_a_distance():
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        tl.EvaluateEvery(0, blobs())


# -- early stopping -------------------------------------------------------------------------------------------------


def test_early_stopping_goes_back_to_the_best_epoch(scripted):
    stopper = scripted(0.5, 0.9, 0.8, 0.7, patience=2)
    net = classifier(4, 8, 3)
    history = fit(net, stopper, epochs=10)
    assert history.stopped == "no improvement for 2 epochs; best was epoch 2"
    assert (stopper.best_epoch, stopper.best_accuracy) == (2, 0.9)
    assert len(history.losses) == 4 * 3
    assert furthest(weights(net), stopper.seen[1]) == 0
    assert furthest(weights(net), stopper.seen[3]) > 0


def test_the_last_epoch_counts_too(scripted):
    stopper = scripted(0.5, 0.6, 0.9)
    net = classifier(4, 8, 3)
    fit(net, stopper, epochs=3)
    assert (stopper.best_epoch, stopper.script) == (3, [])
    assert furthest(weights(net), stopper.seen[2]) == 0


def test_early_stopping_keeps_batch_norm_statistics_and_weights_together(scripted):
    net = tl.TransferLearning(classifier(4, 8, 3)).add_vertex("norm", tl.BatchNorm(), "0")
    net = net.add_layer("end", tl.Output(3, updater=tl.Sgd(0.1)), "norm").remove_vertex_and_connections("1")
    net = net.set_outputs("end").build()
    stopper = scripted(0.9, 0.1)
    fit(net, stopper, epochs=2)
    assert moved(net, stopper.seen[1]) == {"0", "norm", "end"}
    assert furthest(weights(net), stopper.seen[0]) == 0


def test_early_stopping_restores_when_training_is_interrupted(scripted):
    class Interrupt(tl.Listener):
        def iteration_done(self, training):
            if training.iteration == 5:
                raise KeyboardInterrupt

    stopper = scripted(0.9)
    net = classifier(4, 8, 3)
    with pytest.raises(KeyboardInterrupt):
        fit(net, stopper, Interrupt(), epochs=3)
    assert furthest(weights(net), stopper.seen[0]) == 0


def test_early_stopping_that_saw_no_epoch_changes_nothing(scripted):
    stopper = scripted()
    net, same = classifier(4, 8, 3), classifier(4, 8, 3)
    fit(net, stopper, max_iterations=2)
    fit(same, max_iterations=2)
    assert stopper.best_epoch == 0
    assert furthest(weights(net), weights(same)) == 0


def test_early_stopping_never_puts_one_networks_weights_into_another(scripted):
    stopper = scripted(0.9, 0.5, 0.6)
    fit(classifier(4, 8, 3), stopper, epochs=1)
    other = classifier(4, 8, 3, updater=tl.Sgd(0.5))
    fit(other, stopper, epochs=2)
    assert (stopper.best_epoch, stopper.best_accuracy) == (2, 0.6)
    assert furthest(weights(other), stopper.seen[2]) == 0
    third = classifier(4, 8, 3)
    before = weights(third)
    stopper.training_started(Training(third, None, 1))
    stopper.training_done(Training(third, None, 1))
    assert moved(third, before) == set()


def test_early_stopping_on_real_data_ends_with_the_best_it_measured():
    net = classifier(4, 8, 3, updater=tl.Sgd(0.5))
    test = blobs(9)
    stopper = tl.EarlyStopping(test, patience=2)
    history = fit(net, stopper, epochs=15)
    accuracies = [accuracy for _, accuracy in history.evaluations]
    assert tl.evaluate(net, test).accuracy == max(accuracies) == stopper.best_accuracy
    assert accuracies[stopper.best_epoch - 1] == max(accuracies)


def test_frozen_weights_are_not_kept_a_second_time():
    net = classifier(4, 8, 3).freeze("0")
    stopper = tl.EarlyStopping(blobs())
    fit(net, stopper, epochs=2)
    address = torch._C._data_address
    assert address(stopper._best["0.weight"]) == address(net.vertices["0"].module.weight)
    assert torch.equal(stopper._best["1.weight"], net.vertices["1"].module.weight)


# -- unfreezing -----------------------------------------------------------------------------------------------------


class Steps(tl.Listener):
    """Notes which vertices each epoch changed."""

    def __init__(self, net):
        self.net = net
        self.changed = []
        self.before = weights(net)

    def epoch_done(self, training):
        self.changed.append(moved(self.net, self.before))
        self.before = weights(self.net)


def deep():
    return (
        tl.TransferLearning(classifier(4, 8, 8, 8, 3))
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Adam(0.01)))
        .set_feature_extractor("2")
        .build()
    )


def test_unfreezing_moves_the_boundary_after_the_epochs_asked_for():
    net = deep()
    steps = Steps(net)
    fit(net, steps, tl.Unfreeze(2, up_to="0"), tl.Unfreeze(4), epochs=5)
    assert steps.changed == [{"3"}, {"3"}, {"1", "2", "3"}, {"1", "2", "3"}, {"0", "1", "2", "3"}]
    assert net.frozen == frozenset()
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_weights_that_train_on_keep_their_updaters_state_and_new_ones_start_without():
    net = deep()
    fit(net, tl.Unfreeze(2, up_to="1"), epochs=3)
    state = net.optimizers.state()
    assert {name: int(values["step"]) for name, values in state.items() if name.endswith("weight")} == {
        "2.weight": 3,
        "3.weight": 9,
    }


def test_training_after_unfreezing_is_training_a_network_that_was_frozen_there():
    late, early = deep(), deep()
    fit(late, tl.Unfreeze(1, up_to="0"), epochs=2)
    fit(early, epochs=1)
    early.unfreeze("1")
    fit(early, epochs=1)
    assert furthest(weights(late), weights(early)) == 0


def test_unfreezing_may_also_freeze():
    net = deep().unfreeze()
    steps = Steps(net)
    fit(net, steps, tl.Unfreeze(1, up_to="2"), epochs=2)
    assert steps.changed == [{"0", "1", "2", "3"}, {"3"}]


def test_a_batch_norm_that_was_frozen_counts_again():
    net = tl.Network.from_module(
        torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU()), torch.zeros(1, 4)
    )
    net = tl.TransferLearning(net).add_layer("out", tl.Output(3)).set_feature_extractor("0").build()
    fit(net, epochs=1)
    assert int(net.vertices["0"].module.norm.num_batches_tracked) == 0
    fit(net, tl.Unfreeze(1), epochs=3)
    assert int(net.vertices["0"].module.norm.num_batches_tracked) == 6
    assert not net.training


def test_a_wrong_boundary_is_an_error_before_the_first_batch():
    net = deep()
    before = weights(net)
    with pytest.raises(KeyError, match="no vertex 'block4_pool'"):
        fit(net, tl.Unfreeze(2, up_to="block4_pool"), epochs=3)
    assert moved(net, before) == set()
    with pytest.raises(ValueError, match=r"at_epoch is the number of epochs .* at least 1, got 0"):
        tl.Unfreeze(0)


def test_early_stopping_goes_back_to_the_best_weights_across_a_move_of_the_boundary(scripted):
    net = deep()
    stopper = scripted(0.5, 0.9, 0.6, 0.7, patience=9)
    fit(net, stopper, tl.Unfreeze(2), epochs=4)
    assert stopper.best_epoch == 2
    assert furthest(weights(net), stopper.seen[1]) == 0
