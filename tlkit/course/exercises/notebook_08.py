"""Exercises of notebook 08: save featurized data and train on them."""

from __future__ import annotations

from typing import Any

from tlkit.course.checks import NotYet, as_number, exercise, kind_of
from tlkit.errors import quoted
from tlkit.features.store import FeatureStore
from tlkit.graph.network import Network

__all__: list[str] = []


@exercise("08.1", "2,532 photos in shards of 256, stopped at photo 1,500: how many does the next call run through?")
def photos_left(answer: Any) -> str:
    number = as_number(answer)
    if number == 1252:
        return "5 × 256 = 1,280 photos lie in finished shards, and 2,532 - 1,280 = 1,252 remain."
    if number == 2532 - 1500:
        missing = "1,032 would be left if each photo were kept by itself. They are kept in shards of 256."
    elif number == 1280:
        missing = "1,280 photos are finished. The question is how many are not."
    elif number == 2532 - 6 * 256:
        missing = "the sixth shard was begun, not finished: it has no record, so it is computed anew."
    else:
        missing = f"{number:,} is not it. How many whole shards of 256 are in the first 1,500 photos?"
    raise NotYet(missing)


@exercise("08.2", "which of head, rate, photo, size, weight and epochs make a store compute again?")
def causes(answer: Any) -> str:
    right, others = {"photo", "size", "weight"}, {"head", "rate", "epochs"}
    given = {answer} if isinstance(answer, str) else set(answer)
    if unknown := given - right - others:
        missing = f"{quoted(sorted(map(str, unknown)))} is none of the words {quoted(sorted(right | others), 'or')}."
        raise NotYet(missing)
    if given == right:
        return "the photo, its size and the weights on the way to the boundary make the features. The rest comes later."
    if wrong := sorted(given & others):
        missing = f"{quoted(wrong)} changes what happens behind the boundary. The features do not depend on it."
    else:
        missing = f"{quoted(sorted(given)) or 'none'} is right, and not all. What else happens to a photo on its way?"
    raise NotYet(missing)


@exercise("08.3", "a store of ten training images at places.fine_tune_from, with two bytes for each number.")
def earlier_store(answer: Any, net: Network) -> str:
    if not isinstance(answer, FeatureStore):
        missing = f"the answer is a feature store, what helper.featurize(few, to=...) returns, not {kind_of(answer)}."
        raise NotYet(missing)
    wanted = net.landmarks.fine_tune_from
    if wanted not in net.frozen or net.boundary() == (wanted,):
        missing = "`net` itself was frozen up to another boundary. Run the notebook again, and give the helper a copy."
    elif answer.names != (wanted,):
        missing = f"these are features of {quoted(answer.names)}. Name the boundary '{wanted}' to the helper."
    elif answer.dtype.itemsize != 2:
        missing = "each number has four bytes. featurize takes dtype=torch.float16."
    elif len(answer) != 10:
        missing = f"the store has {len(answer)} rows; 10 are asked for: flowers.train[:10]."
    else:
        return f"10 rows of '{wanted}' take {answer.nbytes:,} bytes, half of what float32 would."
    raise NotYet(missing)
