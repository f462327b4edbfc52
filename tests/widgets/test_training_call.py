"""A call that is yet to be made: checked at once, and written down as Python."""

from __future__ import annotations

import pytest
from nets import blobs, classifier

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets.training_call import TrainingCall


def test_the_code_names_data_and_writes_what_is_short():
    call = TrainingCall(tl.fit, classifier(4, 3), blobs(), 3, batch_size=8, shuffle=False, progress=True)
    assert call.code == "history = tl.fit(net, data, epochs=3, batch_size=8, shuffle=False)"


def test_long_code_is_written_in_lines():
    options = {"epochs": 3, "batch_size": 8, "shuffle": False, "max_iterations": 5, "test": blobs(9), "test_every": 2}
    code = TrainingCall(tl.fit, classifier(4, 3), blobs(), listeners=[tl.Unfreeze(1)], **options).code
    assert code.splitlines()[0] == "history = tl.fit("
    assert code.splitlines()[-2:] == ["    listeners=[*listeners, tl.EvaluateEvery(2, test)],", ")"]
    assert max(map(len, code.splitlines())) < 80


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((), {}, r"tl\.fit: missing a required argument: 'net'\. Write what it is called with behind it"),
        (("net", blobs()), {"epoch": 3}, r"tl\.fit has no parameter 'epoch'\. Did you mean 'epochs'\? It has 'net'"),
        (("net", blobs()), {"tests": blobs()}, "Did you mean 'test'"),
        (("net", [1, 2]), {}, r"Expected images, features or a tuple of tensors"),
        (("net", blobs()), {"test": 3}, r"Expected images, features or a tuple of tensors \(x, y\), got int"),
        (("net", blobs()), {"test_every": 3}, "there is nothing to test on"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(arguments, options, sentence):
    net = classifier(4, 8, 3)
    with pytest.raises((TypeError, ValueError), match=sentence):
        TrainingCall(tl.fit, *(net if argument == "net" else argument for argument in arguments), **options)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (tl.evaluate, "the function is tl.fit or helper.fit_featurized, got evaluate"),
        (tl.History(), r"got History\. It was called already: write tl\.fit, net, data"),
        (None, "got NoneType"),
    ],
)
def test_a_function_that_does_not_train_is_refused(function, sentence):
    with pytest.raises(TypeError, match=sentence):
        TrainingCall(function, classifier(4, 3), blobs())
