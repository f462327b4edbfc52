import copy
import math
import threading

import pytest
import torch
from by_hand import assert_same_weights, by_hand, fit, plain
from nets import blobs, chain, classifier, furthest, moved, narrow_vgg16, pictures, seeded, weights
from torch.nn import functional as F

import tlkit as tl
from tlkit.training.loop import compute_loss

# -- what training does ---------------------------------------------------------------------------------------------


def test_the_loss_goes_down_and_the_network_learns():
    net = classifier(4, 8, 3)
    before = tl.evaluate(net, blobs()).accuracy
    history = fit(net, epochs=40, batch_size=8)
    assert history.losses[-1] < 0.3 * history.losses[0]
    assert tl.evaluate(net, blobs()).accuracy > max(before, 0.95)


def test_frozen_vertices_do_not_move_and_the_others_train_as_if_alone():
    net = classifier(4, 8, 8, 3).freeze("0")
    module = plain(net)
    before = weights(net)
    fit(net, epochs=3, batch_size=8, shuffle=False)
    assert moved(net, before) == {"1", "2"}
    assert_same_weights(net, by_hand(module, blobs(), [torch.optim.SGD(module[2:].parameters(), lr=0.1)]))


def test_a_frozen_vertex_that_gradients_pass_through_stays_while_those_before_it_train():
    net = classifier(4, 8, 8, 3).freeze("1", backprop=True)
    before = weights(net)
    fit(net)
    assert moved(net, before) == {"0", "2"}


def test_dropout_acts_while_training_and_not_afterwards():
    net = classifier(4, 64, 3, dropout=0.5)
    x, _ = blobs()
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    fit(net)
    assert torch.equal(net(x), net(x))


def test_uint8_images_are_normalized_by_the_networks_preprocessing():
    net = narrow_vgg16(classes=5)
    net = tl.TransferLearning(net).remove_vertex_keep_connections("predictions").add_layer(
        "predictions", tl.Output(5, updater=tl.Sgd(0.1)), "fc2").build()  # fmt: skip
    net.preprocessing = tl.Preprocessing(size=32, resize=36)
    net.seed = 1
    raw = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    y = torch.arange(6) % 5
    other = tl.TransferLearning(net).build()
    fit(net, (raw, y))
    fit(other, (other.preprocessing(raw), y))
    assert furthest(weights(net), weights(other)) == 0


# -- order, seeds, limits -------------------------------------------------------------------------------------------


class Recorder(tl.Listener):
    def __init__(self):
        self.events = []

    def iteration_done(self, training):
        self.events.append(("iteration", training.iteration, training.epoch))
        self.losses = list(training.history.losses)

    def epoch_done(self, training):
        self.events.append(("epoch", training.iteration, training.epoch))

    def training_done(self, training):
        self.events.append(("done", training.iteration, training.epoch))
        self.history = training.history


class Watched:
    """Data that remember in which order they were asked for."""

    classes = ("a", "b", "c")

    def __init__(self, rows=24):
        self.x, self.labels = blobs(rows)
        self.orders = []

    def __len__(self):
        return len(self.x)

    def batches(self, batch_size, order=None):
        self.orders.append(torch.arange(len(self)) if order is None else order)
        for rows in self.orders[-1].split(batch_size):
            yield self.x[rows], self.labels[rows]


def test_without_shuffling_the_rows_come_in_their_order():
    data = Watched()
    fit(classifier(4, 3), data, epochs=2, shuffle=False)
    assert [order.tolist() for order in data.orders] == [list(range(24))] * 2


def test_each_epoch_shows_every_row_once_in_a_new_order_that_the_seed_decides():
    first, second, third = Watched(), Watched(), Watched()
    net = classifier(4, 3)
    fit(net, first, epochs=2)
    fit(net, first)
    fit(classifier(4, 3), second, epochs=3)
    orders = [order.tolist() for order in first.orders]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [order.tolist() for order in second.orders] == orders, "two calls go on where one call would be"
    other = classifier(4, 3)
    other.seed = 99
    fit(other, third)
    assert third.orders[0].tolist() != orders[0]


def test_the_same_seed_gives_the_same_weights_with_dropout_too_whatever_the_caller_draws():
    def trained(seed, draws):
        net = classifier(4, 16, 3, dropout=0.5)
        net.seed = seed
        torch.rand(draws)
        fit(net, epochs=3, batch_size=5)
        return weights(net)

    assert furthest(trained(1, 0), trained(1, 7)) == 0
    assert furthest(trained(1, 0), trained(2, 0)) > 0


@pytest.mark.parametrize("split", [(4,), (2, 2), (1, 2, 1)])
def test_epochs_in_several_calls_are_those_of_one_call_dropout_included(split, tmp_path):
    once, twice = (classifier(4, 16, 3, dropout=0.5, updater=tl.Adam(0.01)) for _ in range(2))
    fit(once, epochs=4, batch_size=5)
    for epochs in split:
        fit(twice, epochs=epochs, batch_size=5)
        torch.rand(1)
        path = tl.save(twice, tmp_path / "net.tlk", updater_state=True)
        twice = tl.load(path, source=chain(4, 16, 3, dropout=0.5))
    assert furthest(weights(once), weights(twice)) == 0


def test_seeded_trainings_in_threads_are_what_they_are_alone():
    def trained(net, barrier):
        barrier.wait(30)
        fit(net, data, epochs=10, batch_size=4)

    data = blobs()
    alone, threaded = ([classifier(4, 16, 3, dropout=0.5) for _ in range(3)] for _ in range(2))
    for net in alone:
        trained(net, threading.Barrier(1))
    together = threading.Barrier(3)
    threads = [threading.Thread(target=trained, args=(net, together)) for net in threaded]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(furthest(weights(one), weights(other)) == 0 for one, other in zip(alone, threaded, strict=True))


def test_training_leaves_the_random_numbers_of_the_caller_alone():
    with seeded(5):
        fit(classifier(4, 16, 3, dropout=0.5))
        after = torch.rand(3)
    with seeded(5):
        assert torch.equal(after, torch.rand(3))


def test_without_a_seed_the_callers_random_numbers_decide():
    def trained(seed):
        net = classifier(4, 16, 3, dropout=0.5)
        net.seed = None
        with seeded(seed):
            fit(net)
        return weights(net)

    assert furthest(trained(1), trained(1)) == 0
    assert furthest(trained(1), trained(2)) > 0


@pytest.mark.parametrize(("limit", "losses", "examples"), [(1, 1, 10), (3, 3, 24), (4, 4, 34), (100, 6, 48)])
def test_max_iterations_ends_training_after_that_many_batches(limit, losses, examples):
    history = fit(classifier(4, 3), batch_size=10, epochs=2, max_iterations=limit)
    assert len(history.losses) == losses
    assert history.examples == examples
    assert history.stopped == ""
    assert history.seconds > 0


def test_listeners_hear_of_each_batch_and_of_each_whole_epoch():
    recorder = Recorder()
    fit(classifier(4, 3), batch_size=12, epochs=2, listeners=[recorder])
    assert recorder.events == [
        ("iteration", 1, 0),
        ("iteration", 2, 0),
        ("epoch", 2, 1),
        ("iteration", 3, 1),
        ("iteration", 4, 1),
        ("epoch", 4, 2),
        ("done", 4, 2),
    ]


def test_an_epoch_that_was_cut_short_is_no_epoch():
    recorder = Recorder()
    fit(classifier(4, 3), batch_size=12, epochs=3, max_iterations=3, listeners=[recorder])
    assert [event for event in recorder.events if event[0] == "epoch"] == [("epoch", 2, 1)]


def test_listeners_see_the_losses_so_far():
    recorder = Recorder()
    history = fit(classifier(4, 3), batch_size=12, epochs=2, listeners=[recorder])
    assert recorder.losses == history.losses
    assert len(history.losses) == 4


def test_a_listener_can_end_training():
    class Stop(tl.Listener):
        def iteration_done(self, training):
            if training.iteration == 2:
                training.stop("seen enough")

    recorder = Recorder()
    history = fit(classifier(4, 3), batch_size=4, epochs=5, listeners=[Stop(), recorder])
    assert len(history.losses) == 2
    assert history.stopped == "seen enough"
    assert repr(history) == "History(2 iterations, 8 examples, stopped: seen enough)"
    assert recorder.events[-1][0] == "done"


def test_the_losses_are_those_of_each_batch_penalties_included():
    net = tl.TransferLearning(classifier(4, 8, 3)).fine_tune_configuration(
        tl.FineTuneConfiguration(l1=0.1, l2=0.2)).build()  # fmt: skip
    x, y = blobs()
    with torch.no_grad():
        expected = F.nll_loss(net(x).log(), y)
        for weight in (net.vertices[name].module.weight for name in "01"):
            expected += 0.1 * weight.abs().sum() + 0.1 * weight.square().sum()
    history = fit(net, batch_size=24)
    assert history.losses == [pytest.approx(expected.item(), rel=1e-5)]


# -- interruption and trouble ---------------------------------------------------------------------------------------


def test_an_interrupt_leaves_a_valid_network_and_a_history():
    class Interrupt(tl.Listener):
        def iteration_done(self, training):
            if training.iteration == 3:
                raise KeyboardInterrupt

    net = classifier(4, 8, 3, dropout=0.5)
    reference = classifier(4, 8, 3, dropout=0.5)
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        fit(net, epochs=9, batch_size=8, listeners=[recorder, Interrupt()])
    assert not any(module.training for module in net.modules())
    assert len(recorder.history.losses) == 3
    assert recorder.history.examples == 24
    assert recorder.history.stopped == "interrupted"
    fit(reference, epochs=9, batch_size=8, max_iterations=3)
    assert furthest(weights(net), weights(reference)) == 0
    fit(net)  # and training can go on


def test_an_error_in_a_listener_leaves_a_network_in_evaluation_mode():
    class Broken(tl.Listener):
        def iteration_done(self, training):
            msg = "broken"
            raise ZeroDivisionError(msg)

    net = classifier(4, 8, 3)
    with pytest.raises(ZeroDivisionError):
        fit(net, listeners=[Broken()])
    assert not net.training


@pytest.mark.parametrize("listeners", [[], [Recorder()]], ids=["alone", "heard"])
def test_a_loss_that_is_lost_stops_with_a_sentence_before_it_reaches_the_weights(listeners):
    net = classifier(4, 8, 3)
    x, y = blobs()
    x[5] = math.nan
    history = fit(net, (x, y), batch_size=4, shuffle=False, epochs=3, listeners=listeners)
    assert len(history.losses) == 2
    assert math.isnan(history.losses[-1])
    assert history.stopped.startswith("the loss is nan; try a smaller learning rate")
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_where_asking_makes_a_gpu_wait_a_lost_loss_moves_no_weight_either(monkeypatch):
    monkeypatch.setattr("tlkit.training.loop._answers_at_once", lambda device: False)
    net, reference = classifier(4, 8, 3), classifier(4, 8, 3)
    x, y = blobs()
    fit(reference, (x.clone(), y), batch_size=4, shuffle=False, max_iterations=1)
    x[5] = math.nan
    history = fit(net, (x, y), batch_size=4, shuffle=False, epochs=9)
    assert history.stopped.startswith("the loss is nan; try a smaller learning rate")
    assert len(history.losses) == 11
    assert furthest(weights(net), weights(reference)) == 0


def test_a_learning_rate_that_is_too_large_stops_too():
    history = fit(classifier(4, 8, 3, updater=tl.Sgd(1e30)), epochs=9, batch_size=4)
    assert "smaller learning rate" in history.stopped
    assert len(history.losses) < 9 * 6


def test_a_lost_loss_does_not_trip_a_listener_that_evaluates():
    x, y = blobs()
    x[1] = math.nan
    history = fit(classifier(4, 3), (x, y), shuffle=False, listeners=[tl.EvaluateEvery(1, blobs())])
    assert "the loss is nan" in history.stopped
    assert history.evaluations == []


ALL_FROZEN = r"Everything is frozen, so there is nothing to train. Unfreeze some of it: net.unfreeze\(name\)"


def test_a_network_that_is_wholly_frozen_is_refused():
    with pytest.raises(ValueError, match=ALL_FROZEN):
        fit(classifier(4, 3).freeze("0"))


def test_an_output_without_a_loss_is_answered_with_how_to_replace_it():
    with pytest.raises(ValueError, match=r"The output '1' \(Linear\) has no loss.*add_layer\('1', tl.Output\(n_cla"):
        fit(chain(4, 5, 3))


@pytest.mark.parametrize("wrong", [3, -1])
def test_labels_beyond_the_classes_are_refused_before_anything_moves(wrong):
    net = classifier(4, 3)
    x, y = blobs()
    y[20] = wrong
    before = weights(net)
    with pytest.raises(ValueError, match="The output '0' tells 3 classes apart, numbered from 0 to 2; the labels go"):
        fit(net, (x, y), batch_size=4)
    assert moved(net, before) == set()


@pytest.mark.parametrize("option", ["epochs", "batch_size", "max_iterations"])
def test_amounts_below_one_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        fit(classifier(4, 3), **{option: 0})


def test_an_input_that_does_not_fit_names_the_vertex():
    with pytest.raises(RuntimeError, match=r"Vertex '0' \(Linear\) cannot take an input of shape \(24, 7\)"):
        fit(classifier(4, 3), (torch.zeros(24, 7), torch.zeros(24, dtype=torch.long)))


# -- class names ----------------------------------------------------------------------------------------------------


def test_a_network_learns_the_class_names_of_its_data_and_keeps_its_own():
    net = classifier(4, 3)
    fit(net, Watched())
    assert net.classes == ("a", "b", "c")
    net.classes = ("x", "y", "z")
    fit(net, Watched())
    assert net.classes == ("x", "y", "z")


# -- several inputs and outputs -------------------------------------------------------------------------------------


def two_outputs():
    net = chain(4, 8, 3)
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.01), seed=1))
        .remove_vertex_and_connections("1")
        .add_layer("kind", tl.Output(3), "0")
        .add_layer("size", tl.Output(1, loss="mean_squared_error"), "0")
        .add_layer("marks", tl.Output(2, loss="binary_cross_entropy"), "0")
        .set_outputs("kind", "size", "marks")
        .build()
    )


def test_several_outputs_train_on_labels_by_name():
    net = two_outputs()
    x, kind = blobs()
    labels = {"marks": torch.stack([kind == 0, kind == 1], 1), "kind": kind, "size": kind[:, None].float()}
    loss = compute_loss(net, x, labels)
    raw = net.preactivations(x)
    expected = (
        F.cross_entropy(raw["kind"], kind)
        + F.mse_loss(raw["size"], labels["size"])
        + F.binary_cross_entropy_with_logits(raw["marks"], labels["marks"].float())
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    before = weights(net)
    history = fit(net, (x, labels), epochs=60, batch_size=8)
    assert moved(net, before) == {"0", "kind", "size", "marks"}
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert history.examples == 60 * 24


def test_labels_for_other_outputs_are_refused():
    x, y = blobs()
    with pytest.raises(ValueError, match="answers with 'kind', 'size' and 'marks', the labels are for 'kind' and"):
        fit(two_outputs(), (x, {"kind": y, "siz": y}))


def test_labels_of_another_shape_are_refused_before_they_are_broadcast():
    x, y = blobs()
    labels = {"kind": y, "size": torch.zeros(24, 3), "marks": torch.zeros(24, 2)}
    with pytest.raises(ValueError, match=r"values of shape \(24, 1\) with labels, got shape \(24, 3\)"):
        fit(two_outputs(), (x, labels))


def test_class_probabilities_are_labels_too():
    x, y = blobs()
    shares = F.one_hot(y, 3).float()
    one, other = classifier(4, 8, 3), classifier(4, 8, 3)
    fit(one, (x, y))
    fit(other, (x, shares))
    assert furthest(weights(one), weights(other)) < 1e-6


def test_several_inputs_come_by_name():
    edits = tl.TransferLearning(chain(4, 5, 3)).remove_vertex_and_connections("0").remove_vertex_and_connections("1")
    edits.set_inputs({"left": (4,), "right": (2,)}).add_layer("answer", tl.Output(3), "left", "right")
    net = edits.set_outputs("answer").fine_tune_configuration(tl.FineTuneConfiguration(seed=1)).build()
    x, y = blobs()
    history = fit(net, ({"left": x, "right": x[:, :2]}, y), epochs=2)
    assert len(history.losses) == 2
    with pytest.raises(ValueError, match="The network reads 'left' and 'right', the data hold 'left'"):
        fit(net, (x, y))


# -- devices --------------------------------------------------------------------------------------------------------


def test_a_device_is_chosen_by_name():
    assert tl.device("cpu") == torch.device("cpu")
    assert tl.device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_a_clear_error():
    with pytest.raises(RuntimeError, match="DEVICE='cuda' was asked for, but this machine has no such device"):
        tl.device("cuda")


def test_a_second_gpu_needs_to_be_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert tl.device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(RuntimeError, match="DEVICE='cuda:1' was asked for"):
        tl.device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_a_word_that_is_no_device_is_answered_with_those_that_are(name):
    with pytest.raises(ValueError, match=f"'{name}' is no device. Use 'auto', 'cpu', 'cuda'"):
        tl.device(name)


@pytest.mark.gpu
def test_training_on_a_gpu_learns_and_never_changes_the_original():
    net = classifier(4, 8, 3, updater=tl.Adam(0.05)).to("cuda")
    copied = tl.TransferLearning(net).build()
    before = weights(net)
    history = fit(copied, epochs=20, batch_size=8)
    assert history.losses[-1] < history.losses[0]
    assert furthest(before, weights(net)) == 0


def test_a_copied_network_trains_on_by_itself():
    net = classifier(4, 8, 3, updater=tl.Adam(0.01))
    fit(net, shuffle=False)
    other = copy.deepcopy(net)
    before = weights(net)
    fit(other, shuffle=False)
    assert moved(net, before) == set()
    fit(net, shuffle=False)
    assert furthest(weights(net), weights(other)) == 0


@pytest.mark.slow
def test_pictures_train_a_convolutional_network():
    net = narrow_vgg16(classes=5)
    net = (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Adam(3e-3), dropout=None, seed=1))
        .remove_vertex_keep_connections("predictions")
        .add_layer("predictions", tl.Output(5), "fc2")
        .build()
    )
    history = fit(net, pictures(10), epochs=25, batch_size=5)
    assert history.losses[-1] < 0.5 * history.losses[0]
