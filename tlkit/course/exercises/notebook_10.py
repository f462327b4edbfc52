"""Exercises of notebook 10: utilities."""

from __future__ import annotations

from typing import Any

from torch import linspace

from tlkit.builder import TransferLearning
from tlkit.course.checks import NotYet, as_network, check_output, exercise, kind_of
from tlkit.errors import quoted
from tlkit.graph.network import Network
from tlkit.layers.descriptions import Output
from tlkit.layers.updaters import Sgd
from tlkit.training.listeners import Listener
from tlkit.training.loop import History, fit
from tlkit.tuning import FineTuneConfiguration

__all__: list[str] = []


@exercise("10.1", "translate: freeze layer 0, ten outputs for layer 1, and a new output layer for five classes.")
def translated(answer: Any, chain: Network) -> str:
    net = as_network(answer)
    check_output(net, 5)
    first, second, _ = list(chain.vertices)
    if net is chain or len(net.vertices) != 3:
        missing = f"the network has {len(net.vertices)} layers; the Java code ends with three."
    elif net.frozen != {first}:
        missing = f"frozen: {quoted(sorted(net.frozen)) or 'no layer'}. .setFeatureExtractor(0) freezes layer 0 alone."
    elif net.vertices[second].module.out_features != 10:
        width = net.vertices[second].module.out_features
        missing = f"layer 1 has {width} outputs; .nOutReplace(1, 10, ...) gives it 10."
    else:
        return "the same layers, sizes and frozen mark. The new output's ten inputs were inferred."
    raise NotYet(missing)


@exercise("10.2", "all five daisies found, three of five roses taken for daisies: accuracy, and daisy's precision?")
def scores(answer: Any) -> str:
    accuracy, precision = map(float, answer)
    if abs(accuracy - 0.7) > 0.005:
        missing = f"{accuracy:g} is not the accuracy. How many of the ten images are right?"
    elif abs(precision - 0.625) <= 0.005:
        return "7 of 10 are right, and 5 of the 8 images that were called daisies are daisies."
    elif abs(precision - 1) <= 0.005:
        missing = "1 is the recall: all daisies were found. Precision asks about all images that were called daisies."
    else:
        missing = f"{precision:g} is not the precision. How many images were called daisies, and how many of them are?"
    raise NotYet(missing)


@exercise("10.3", "a listener that ends training as soon as a batch's loss is below 0.5.")
def loss_below(answer: Any) -> str:
    make = answer if isinstance(answer, type) else lambda: answer
    if not isinstance(make(), Listener):
        missing = f"the answer is a class made from tl.Listener, and this is {kind_of(answer)}."
        raise NotYet(missing)
    learns, stays = _toy_run(make(), rate=1.0), _toy_run(make(), rate=1e-6)
    if stays.stopped:
        missing = f"it also ends a training whose loss stays at {stays.losses[-1]:.2f}. Compare training.loss with 0.5."
    elif not learns.stopped:
        missing = "training went on below a loss of 0.5. Call training.stop('a reason') in iteration_done."
    elif min(learns.losses) >= 0.5 or any(loss < 0.5 for loss in learns.losses[:-1]):
        missing = f"it ended training after losses down to {min(learns.losses):.2f}. End it at the first below 0.5."
    else:
        return f"training ended at a loss of {learns.losses[-1]:.2f}, the first below 0.5."
    raise NotYet(missing)


def _toy_run(listener: Listener, rate: float) -> History:
    """Train a tiny network to tell positive from negative numbers."""
    start = Network({}, inputs={"number": (1,)}, outputs=["number"])
    tuning = FineTuneConfiguration(updater=Sgd(lr=rate), weight_init="zero", seed=1)
    edits = TransferLearning(start).fine_tune_configuration(tuning).add_layer("sign", Output(n_out=2), "number")
    net = edits.set_outputs("sign").build()
    numbers = linspace(-1, 1, 20)[:, None]
    data = (numbers, (numbers[:, 0] > 0).long())
    return fit(net, data, epochs=40, batch_size=20, listeners=[listener], progress=False)
