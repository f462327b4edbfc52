"""Transfer to real flowers: accuracy of a new head, and what featurizing once saves.

    python benchmarks/flowers.py [IMAGES] [--backbone NAME] [--whole-batches N]

IMAGES is "photos", a folder, an archive or "drawn"; when left out, photos if there are any (benchmarks/photos.py says),
else drawn flowers. The linear head's solver is compared with scikit-learn's where that is installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
import photos

import tlkit as tl

EPOCHS = 20
PER_CLASS = 300  # 240 of them to train
RUNS = 3


def with_new_head(backbone: tl.Network, n_classes: int) -> tl.Network:
    """Return the network of section III.A."""
    places = backbone.landmarks
    tuning = tl.FineTuneConfiguration(updater=tl.Nesterovs(lr=0.01, momentum=0.9), seed=12345)
    return (
        tl.TransferLearning(backbone)
        .fine_tune_configuration(tuning)
        .set_feature_extractor(places.penultimate)
        .remove_vertex_keep_connections(places.head)
        .add_layer(places.head, tl.Output(n_out=n_classes, weight_init="xavier"), places.penultimate)
        .build()
    )


def seconds_whole(net: tl.Network, train: object, batches: int) -> float:
    """Return the seconds that an epoch of whole-network training takes, from a few batches behind a warm-up."""
    tl.fit(net, train, batch_size=32, max_iterations=2, progress=False)
    history = tl.fit(net, train, batch_size=32, max_iterations=batches, progress=False)
    return history.seconds / history.examples * len(train)


def linear_heads(net: tl.Network, train: tl.FeatureStore, test: tl.FeatureStore) -> None:
    """Print time and accuracy of the solver beside scikit-learn's, three runs of each."""
    seconds, accuracy = [], 0.0
    for _ in range(RUNS):
        helper = tl.TransferLearningHelper(with_new_head(net, len(train.classes)))
        seconds.append(helper.fit_featurized(train, solver="lbfgs", progress=False).seconds)
        accuracy = tl.evaluate(helper.unfrozen_network, test).accuracy
    print(f"solver='lbfgs': {accuracy:.1%} in {', '.join(f'{value:.2f}' for value in seconds)} s")
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        print("scikit-learn is not installed")
        return
    (x, y), (x_test, y_test) = ((f.load().tensors[f.names[0]].numpy(), f.labels.numpy()) for f in (train, test))
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        model = LogisticRegression(max_iter=1000).fit(x, y)
        seconds.append(time.perf_counter() - start)
    accuracy = np.mean(model.predict(x_test) == y_test)
    print(f"scikit-learn:   {accuracy:.1%} in {', '.join(f'{value:.2f}' for value in seconds)} s")


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", nargs="?", default=photos.found())
    arguments.add_argument("--backbone", default=tl.zoo.DEFAULT)
    arguments.add_argument("--whole-batches", type=int, default=10)
    options = arguments.parse_args()

    device = tl.device("auto")
    backbone = tl.zoo.load(options.backbone).to(device)
    flowers = tl.images.load(options.images, size=backbone.preprocessing, per_class=PER_CLASS)
    n_classes = len(flowers.classes)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        helper = tl.TransferLearningHelper(with_new_head(backbone, n_classes))
        train = helper.featurize(flowers.train, to=f"{folder}/train", progress=False)
        featurized = time.perf_counter() - start
        test = helper.featurize(flowers.test, to=f"{folder}/test", progress=False)
        helper.fit_featurized(train, batch_size=15, max_iterations=30, progress=False)
        quick = tl.evaluate(helper.unfrozen_network, test).accuracy

        helper = tl.TransferLearningHelper(with_new_head(backbone, n_classes))
        fitted = helper.fit_featurized(train, epochs=EPOCHS, progress=False).seconds
        full = tl.evaluate(helper.unfrozen_network, test).accuracy
        linear_heads(backbone, train, test)
    whole = EPOCHS * seconds_whole(with_new_head(backbone, n_classes), flowers.train, options.whole_batches)

    print(f"{options.backbone}, {len(flowers.train):,} train and {len(flowers.test):,} test images, {device.type}")
    print(photos.described(options.images))
    print(f"accuracy after 30 iterations of 15 images     {quick:6.1%}")
    print(f"accuracy of the fitted head ({EPOCHS} epochs)         {full:6.1%}")
    print(f"featurizing once                              {featurized:6.1f} s")
    print(f"{EPOCHS} epochs on features                          {fitted:6.2f} s")
    print(f"{EPOCHS} epochs of the whole network, frozen prefix  {whole:6.0f} s (from {options.whole_batches} batches)")
    print(f"whole / (featurize + fit)                     {whole / (featurized + fitted):6.1f} times")


if __name__ == "__main__":
    main()
