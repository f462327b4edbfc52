"""Exercises of notebook 04: fine-tune configuration."""

from __future__ import annotations

import math
from typing import Any

from tlkit.builder import TransferLearning
from tlkit.course.checks import NotYet, exercise, kind_of
from tlkit.errors import quoted
from tlkit.graph.network import Network
from tlkit.layers.descriptions import Output
from tlkit.training.evaluation import Evaluation, evaluate
from tlkit.training.loop import fit

__all__: list[str] = []


@exercise("04.1", "a configuration: Adam with lr=0.0001, no dropout in trainable layers, nothing else changed.")
def only_adam_without_dropout(answer: Any) -> str:
    if not hasattr(answer, "given"):
        missing = f"the answer is a tl.FineTuneConfiguration(...), and this is {kind_of(answer)}."
        raise NotYet(missing)
    given = answer.given()
    updater = given.get("updater")
    if type(updater).__name__ != "Adam" or updater.lr != 1e-4:
        missing = f"the updater is {updater}. Adam with a rate of 0.0001 is asked for: updater=tl.Adam(lr=1e-4)."
    elif "dropout" not in given:
        missing = "dropout is left out, so every layer keeps its own. One of the three states removes it."
    elif given["dropout"]:
        missing = f"dropout={given['dropout']} replaces the layers' own. One of the three states removes it."
    elif others := set(given) - {"updater", "dropout"}:
        missing = f"{quoted(sorted(others))} would be changed as well. Leave out what is to stay as it is."
    else:
        return "Adam replaces the updater, None removes the dropout, and what is left out is kept."
    raise NotYet(missing)


@exercise("04.2", "(activation, dropout) that a new tl.Dense(256, activation='relu') gets under that configuration.")
def own_setting_wins(answer: Any) -> str:
    try:
        activation, dropout = answer
    except (TypeError, ValueError):
        missing = "the answer is a pair: the activation's name and the dropout, such as ('sigmoid', 0.1)."
        raise NotYet(missing) from None
    if str(activation).lower() != "relu":
        missing = f"the activation is not {activation!r}: a new layer's own setting wins over the configuration."
    elif dropout != 0.5:
        missing = f"the dropout is not {dropout}: the layer says nothing about it, so the configuration decides."
    else:
        return "the layer's own relu wins, and the dropout it left open comes from the configuration."
    raise NotYet(missing)


@exercise("04.3", "a configuration with tl.Sgd: in one epoch 85% of the test images right, a test loss below 0.6.")
def plain_descent(answer: Any, train: Any, test: Any) -> str:
    if not hasattr(answer, "given"):
        missing = f"the answer is a tl.FineTuneConfiguration(...), and this is {kind_of(answer)}."
        raise NotYet(missing)
    updater = answer.given().get("updater")
    if type(updater).__name__ != "Sgd":
        missing = f"the updater is {updater}. Plain gradient descent is asked for: updater=tl.Sgd(lr=...)."
        raise NotYet(missing)
    tested, losses = _after_one_epoch(answer, train, test)
    accuracy, loss = tested.accuracy, tested.losses.mean().item()
    said = f"{accuracy:.0%} of the test images are right, and the test loss is {loss:.2f}"
    if accuracy >= 0.85 and loss < 0.6:
        return f"{said}: longer steps make up for the missing momentum."
    if max(losses) > 2 * math.log(len(train.classes)):
        missing = f"{said}. A batch had a loss of {max(losses):.1f}, worse than guessing: the steps are too long."
    else:
        missing = f"{said}. In one epoch the loss has not fallen far enough: the steps are too short."
    raise NotYet(missing)


def _after_one_epoch(configuration: Any, train: Any, test: Any) -> tuple[Evaluation, list[float]]:
    (name,) = train.shapes
    features = Network({}, inputs={name: train.shapes[name]}, outputs=[name])
    edit = TransferLearning(features).fine_tune_configuration(configuration)
    head = edit.add_layer("head", Output(len(train.classes)), name).set_outputs("head").build()
    history = fit(head, train, epochs=1, batch_size=15, progress=False)
    return evaluate(head, test), history.losses
