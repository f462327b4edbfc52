import os

import pytest
import torch
from nets import (
    apply,
    blobs,
    branches,
    chain,
    classifier,
    furthest,
    moved,
    narrow_vgg16,
    pairs,
    pictures,
    seeded,
    weights,
)
from PIL import Image
from torch import nn
from torchvision.models import resnet18

import tlkit as tl
from tlkit.features.rows import Features
from tlkit.features.store import FeatureStore
from tlkit.helper import TransferLearningHelper

UPDATERS = {"nesterovs": tl.Nesterovs(0.05, 0.9), "adam": tl.Adam(3e-3)}


def with_head(net, updater, boundary, *, after, classes=5):
    """Freeze up to the boundary and put a hidden layer with dropout and an output behind the network's last layer."""
    *_, last = net.vertices
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=updater, seed=3))
        .set_feature_extractor(*boundary)
        .remove_vertex_and_connections(last)
        .add_layer("hidden", tl.Dense(16, activation="relu", dropout=0.3), after)
        .add_layer("answer", tl.Output(classes), "hidden")
        .set_outputs("answer")
        .build()
    )


def vgg_like(updater, *, batch_norm=False):
    return with_head(narrow_vgg16(batch_norm=batch_norm), updater, ["block4_pool"], after="fc2"), pictures(10)


def residual(updater):
    with seeded(1):
        module = resnet18(num_classes=5)
    net = tl.Network.from_module(module, [torch.zeros(1, 3, 64, 64)])
    *_, end, _ = net.vertices
    with seeded(2):
        x, y = torch.randn(8, 3, 64, 64), torch.arange(8) % 5
    return with_head(net, updater, ["layer3.1"], after=end), (x, y)


def two_branches(updater):
    """Two frozen branches, a trainable one beside them, and a raw input that only the trainable part reads."""
    with seeded(1):
        vertices = {
            "left": tl.Vertex(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), ("image",)),
            "right": tl.Vertex(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5)), ("image",)),
            "side": tl.Vertex(nn.Conv2d(3, 4, 3), ("image",)),
            "flat": tl.Vertex(nn.Flatten(), ("side",)),
        }
    net = tl.Network(vertices, {"image": (3, 6, 6), "facts": (7,)}, ["left", "right", "flat", "facts"])
    net = (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=updater, seed=3))
        .add_vertex("sum", tl.ElementWise("add"), "left", "right")
        .add_vertex("left_flat", tl.Flatten(), "left")
        .add_vertex("sum_flat", tl.Flatten(), "sum")
        .add_layer("hidden", tl.Dense(8, activation="tanh", dropout=0.3), "left_flat", "sum_flat", "flat", "facts")
        .add_layer("answer", tl.Output(3), "hidden")
        .set_outputs("answer")
        .set_feature_extractor("left", "right")
        .build()
    )
    with seeded(2):
        return net, ({"image": torch.randn(9, 3, 6, 6), "facts": torch.randn(9, 7)}, torch.arange(9) % 3)


MAKERS = {
    "vgg": vgg_like,
    "vgg_bn": lambda updater: vgg_like(updater, batch_norm=True),
    "residual": residual,
    "two_branches": two_branches,
}


# -- the identity ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("kind", MAKERS)
def test_training_on_features_is_training_the_whole_network(kind, updater):
    whole, data = MAKERS[kind](UPDATERS[updater])
    parts, _ = MAKERS[kind](UPDATERS[updater])
    before = weights(parts)
    assert furthest(weights(whole), before) == 0

    options = {"epochs": 9, "batch_size": 4, "max_iterations": 5, "progress": False}
    history = tl.fit(whole, data, **options)
    helper = TransferLearningHelper(parts)
    featurized = helper.fit_featurized(helper.featurize(data, progress=False), **options)

    assert furthest(weights(whole), weights(parts)) <= 1e-5
    assert featurized.losses == pytest.approx(history.losses, abs=1e-4)
    assert len(history.losses) == 5
    assert not moved(parts, before) & parts.frozen
    assert furthest(before, weights(parts)) > 1e-3, "training made a difference"
    assert moved(parts, before) >= {"hidden", "answer"}


def test_two_branches_have_two_boundary_tensors_and_a_raw_input():
    net, (x, _) = two_branches(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    assert helper.unfrozen_network.inputs == ("image", "facts", "left", "right")
    assert helper.frozen_network.outputs == helper.unfrozen_network.inputs
    features = helper.featurize(x)
    assert list(features) == ["image", "facts", "left", "right"]
    assert torch.equal(features["facts"], x["facts"])


def test_a_frozen_output_is_handed_on_and_the_other_one_trains():
    def make():
        net = tl.TransferLearning(classifier(4, 8, 3)).set_feature_extractor("1")
        return net.add_layer("new", tl.Output(2, updater=tl.Sgd(0.1)), "1").set_outputs("1", "new").build()

    x, y = blobs()
    labels = {"1": y, "new": y % 2}
    whole, parts = make(), make()
    tl.fit(whole, (x, labels), epochs=3, batch_size=8, progress=False)
    helper = TransferLearningHelper(parts)
    helper.fit_featurized((helper.featurize(x), labels), epochs=3, batch_size=8, progress=False)
    assert furthest(weights(whole), weights(parts)) <= 1e-6
    assert moved(parts, weights(make())) == {"new"}


# -- the two parts --------------------------------------------------------------------------------------------------


def test_the_helper_trains_the_networks_own_weights():
    net, data = vgg_like(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    assert helper.network is net
    own = {id(p) for p in net.parameters()}
    assert {id(p) for p in helper.unfrozen_network.parameters()} <= own
    before = weights(net)
    helper.fit_featurized(helper.featurize(data, progress=False), progress=False)
    assert moved(net, before) == set(net.vertices) - net.frozen - {"flatten", "block5_pool"}
    assert net.frozen == net.ancestors("block4_pool")


@pytest.mark.slow
def test_the_output_from_features_is_the_networks_output():
    for make in MAKERS.values():
        net, (x, _) = make(tl.Sgd(0.1))
        helper = TransferLearningHelper(net)
        with torch.no_grad():
            assert torch.allclose(helper.output_from_featurized(helper.featurize(x)), net(x), atol=1e-6)


def test_features_do_not_depend_on_the_mode_of_the_network():
    net, (x, _) = two_branches(tl.Sgd(0.1))
    before = weights(net)
    helper = TransferLearningHelper(net)
    expected = helper.featurize(x)
    net.train()
    again = TransferLearningHelper(net).featurize(x)
    assert all(torch.equal(expected[name], again[name]) for name in expected)
    assert moved(net, before) == set()
    assert not any(feature.requires_grad for feature in again.values())


def test_a_boundary_given_to_the_helper_is_frozen_in_place_exactly():
    net = narrow_vgg16().freeze("fc2")
    helper = TransferLearningHelper(net, "block2_pool")
    assert helper.network is net
    assert net.frozen == net.ancestors("block2_pool")
    assert not any(p.requires_grad for name in net.frozen for p in net.vertices[name].module.parameters())
    assert helper.unfrozen_network.inputs == ("block2_pool",)

    chained = chain(4, 5, 6, 3)
    assert TransferLearningHelper(chained, 1).network.frozen == {"0", "1"}


def test_several_boundaries_may_be_given():
    net, _ = two_branches(tl.Sgd(0.1))
    net.unfreeze()
    TransferLearningHelper(net, "left", "side")
    assert net.frozen == {"left", "side"}


def test_a_boundary_that_cannot_be_frozen_leaves_the_network_as_it_was():
    net = narrow_vgg16().freeze("block1_pool")
    with pytest.raises(KeyError, match=r"no vertex 'block2pool'.*Did you mean 'block2_pool'"):
        TransferLearningHelper(net, "block2pool")
    assert net.frozen == net.ancestors("block1_pool")


def test_nothing_frozen_and_everything_frozen_are_errors():
    with pytest.raises(ValueError, match=r"Nothing is frozen, so there are no two parts.*Freeze some"):
        TransferLearningHelper(chain(4, 5, 3))
    with pytest.raises(ValueError, match=r"Everything is frozen, so there are no two parts.*Unfreeze some"):
        TransferLearningHelper(chain(4, 5, 3).freeze("1"))
    with pytest.raises(ValueError, match="Everything is frozen"):
        TransferLearningHelper(chain(4, 5, 3), "1")


def test_class_names_of_the_features_become_the_networks():
    net = classifier(4, 8, 3).freeze("0")
    helper = TransferLearningHelper(net)
    x, y = blobs()
    features = Features({"0": helper.featurize(x)}, y, ("a", "b", "c"))
    helper.fit_featurized(features, progress=False)
    assert net.classes == ("a", "b", "c")


def test_features_of_another_boundary_are_refused():
    net, data = vgg_like(tl.Sgd(0.1))
    features = TransferLearningHelper(net, "block2_pool").featurize(data, progress=False)
    with pytest.raises(ValueError, match=r"reads 'block3_pool', the data hold 'block2_pool'. Featurize again"):
        TransferLearningHelper(net, "block3_pool").fit_featurized(features, progress=False)


# -- featurizing ----------------------------------------------------------------------------------------------------


def test_a_tensor_gives_the_boundary_tensor():
    net, (x, _) = vgg_like(tl.Sgd(0.1))
    with torch.no_grad():
        expected = net.split()[0](x)
    assert torch.equal(TransferLearningHelper(net).featurize(x), expected)


@pytest.mark.parametrize("batch_size", [3, 10, 32])
def test_data_with_labels_give_features_with_labels_in_the_same_order(batch_size):
    net, (x, y) = vgg_like(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    features = helper.featurize((x, y), batch_size=batch_size, progress=False)
    assert isinstance(features, Features)
    assert features.names == ("block4_pool",)
    assert torch.equal(features.labels, y)
    assert torch.allclose(features.tensors["block4_pool"], helper.featurize(x), atol=1e-5)
    assert features.classes == ("0", "1", "2", "3", "4")


def test_features_can_be_featurized_further():
    net, data = vgg_like(tl.Sgd(0.1))
    first = TransferLearningHelper(net, "block2_pool")
    features = first.featurize(data, progress=False)
    second = TransferLearningHelper(first.unfrozen_network, "fc1")
    deeper = second.featurize(features, progress=False)
    assert deeper.names == ("fc1",)
    net.freeze("fc1")
    assert torch.allclose(deeper.tensors["fc1"], TransferLearningHelper(net).featurize(data[0]), atol=1e-6)


def test_evaluating_on_features_is_evaluating_on_images():
    net, data = vgg_like(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    on_features = tl.evaluate(helper.unfrozen_network, helper.featurize(data, progress=False))
    assert torch.allclose(on_features.probabilities, tl.evaluate(net, data).probabilities, atol=1e-6)


def test_labels_for_several_outputs_are_answered_with_what_to_do():
    net, (x, y) = vgg_like(tl.Sgd(0.1))
    with pytest.raises(TypeError, match=r"fit_featurized\(\(helper.featurize\(x\), labels\)\)"):
        TransferLearningHelper(net).featurize((x, {"answer": y}))


@pytest.fixture
def photos(tmp_path):
    """A folder of ten pictures of two classes."""
    for number in range(10):
        folder = tmp_path / "photos" / ("daisy" if number % 2 else "roses")
        folder.mkdir(parents=True, exist_ok=True)
        with seeded(number):
            pixels = torch.randint(0, 256, (40, 48, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return tmp_path / "photos"


def on_photos(photos, size=32):
    net, _ = vgg_like(tl.Sgd(0.1))
    net.preprocessing = tl.Preprocessing(size=32, resize=36)
    return TransferLearningHelper(net), tl.images.load(photos, split=None, size=size)


def test_pictures_are_featurized_as_the_network_would_see_them(photos):
    helper, images = on_photos(photos)
    features = helper.featurize(images, progress=False)
    pixels = images.pixels()
    assert pixels.dtype == torch.uint8
    assert torch.allclose(features.tensors["block4_pool"], helper.featurize(pixels), atol=1e-6)
    assert torch.equal(features.labels, images.labels)
    assert features.classes == ("daisy", "roses")
    helper.network.preprocessing = None
    with pytest.raises(TypeError, match="has no preprocessing"):
        TransferLearningHelper(helper.network).featurize(pixels)


def test_half_precision_halves_the_size_and_changes_little(tmp_path):
    net, data = vgg_like(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    full = helper.featurize(data, progress=False)
    half = helper.featurize(data, dtype=torch.float16, progress=False)
    assert half.dtype == torch.float16
    assert 2 * half.nbytes == full.nbytes
    assert torch.allclose(half.tensors["block4_pool"].float(), full.tensors["block4_pool"], atol=1e-2)
    answers = tl.evaluate(helper.unfrozen_network, half).probabilities
    assert torch.allclose(answers, tl.evaluate(net, data).probabilities, atol=1e-2)
    assert len(helper.fit_featurized(half, epochs=2, progress=False).losses) == 2


# -- features on disk -----------------------------------------------------------------------------------------------


def test_a_store_holds_what_memory_would(tmp_path, photos):
    helper, images = on_photos(photos)
    store = helper.featurize(images, tmp_path / "store", progress=False)
    assert isinstance(store, FeatureStore)
    assert (store.rows_computed, store.reasons) == (len(images), ())
    memory = helper.featurize(images, progress=False)
    assert torch.equal(store.load().tensors["block4_pool"], memory.tensors["block4_pool"])
    assert torch.equal(store.labels, memory.labels)
    assert store.classes == memory.classes
    before = weights(helper.network)
    assert helper.fit_featurized(store, epochs=2, progress=False).examples == 20
    assert "answer" in moved(helper.network, before)


def test_a_store_that_is_right_is_not_computed_again(tmp_path, photos, monkeypatch):
    helper, images = on_photos(photos)
    helper.featurize(images, tmp_path / "store", progress=False)
    other, again = on_photos(photos)
    monkeypatch.setattr("tlkit.features.engines.Engine.__call__", lambda *_: pytest.fail("it was computed again"))
    store = other.featurize(again, tmp_path / "store", progress=False)
    assert (store.rows_computed, store.reasons) == (0, ())


def test_dropout_that_came_and_went_does_not_make_a_store_stale(tmp_path):
    def built(net, dropout):
        return tl.TransferLearning(net).fine_tune_configuration(tl.FineTuneConfiguration(dropout=dropout)).build()

    plain = chain(4, 5, 3)
    x = torch.randn(6, 4), torch.arange(6) % 3
    tl.TransferLearningHelper(plain, "0").featurize(x, to=tmp_path, progress=False)
    for net in (built(plain, 0.5), built(built(plain, 0.5), None)):
        store = tl.TransferLearningHelper(net, "0").featurize(x, to=tmp_path, progress=False)
        assert (store.rows_computed, store.reasons) == (0, ())


def test_training_behind_the_boundary_does_not_make_a_store_stale(tmp_path):
    net, data = vgg_like(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    store = helper.featurize(data, tmp_path / "store", progress=False)
    helper.fit_featurized(store, progress=False)
    assert helper.featurize(data, tmp_path / "store", progress=False).rows_computed == 0


def change_a_weight(helper, images, photos):
    with torch.no_grad():
        helper.network.vertices["block2_conv1"].module.weight[0, 0, 0, 0] += 0.001
    return TransferLearningHelper(helper.network), images


def change_a_statistic(helper, images, photos):
    net, _ = vgg_like(tl.Sgd(0.1), batch_norm=True)
    net.preprocessing = helper.network.preprocessing
    return TransferLearningHelper(net), images


def change_the_boundary(helper, images, photos):
    return TransferLearningHelper(helper.network, "block3_pool"), images


def change_the_preprocessing(helper, images, photos):
    helper.network.preprocessing = tl.Preprocessing(size=32, resize=36, mean=(0.5, 0.5, 0.5))
    return TransferLearningHelper(helper.network), images


def change_a_picture(helper, images, photos):
    path = next(photos.glob("daisy/*.png"))
    Image.new("RGB", (40, 48), "red").save(path)
    return helper, tl.images.load(photos, split=None, size=32)


def change_the_crop(helper, images, photos):
    return helper, tl.images.load(photos, split=None, size=tl.Preprocessing(size=32, resize=48))


def change_an_activation(helper, images, photos):
    net, _ = vgg_like(tl.Sgd(0.1))
    net.vertices["block1_conv1"].module.activation = nn.Tanh()
    net.preprocessing = helper.network.preprocessing
    return TransferLearningHelper(net), images


CHANGES = {
    "weight": (change_a_weight, "weights of block2_conv1 differ"),
    "batch norm": (change_a_statistic, "block1_conv1"),
    "boundary": (change_the_boundary, "boundary 'block3_pool' instead of 'block4_pool'"),
    "preprocessing": (change_the_preprocessing, "preprocessing: mean"),
    "picture": (change_a_picture, "1 image edited"),
    "crop": (change_the_crop, "pixels: resize 37 -> 48"),
    "activation": (change_an_activation, "graph: block1_conv1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", CHANGES)
def test_a_store_that_is_stale_is_computed_again_with_a_reason_that_names_the_change(what, tmp_path, photos):
    change, reason = CHANGES[what]
    helper, images = on_photos(photos)
    helper.featurize(images, tmp_path / "store", progress=False)
    helper, images = change(helper, images, photos)
    store = helper.featurize(images, tmp_path / "store", progress=False)
    assert store.rows_computed > 0
    assert reason in " ".join(store.reasons)
    expected = helper.featurize(images, progress=False)
    # a row that is computed alone may have other last digits than beside others
    torch.testing.assert_close(store.load().tensors[store.names[0]], expected.tensors[store.names[0]])


def test_tensors_are_told_apart_by_their_values(tmp_path):
    net, (x, y) = vgg_like(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    helper.featurize((x, y), tmp_path / "store", progress=False)
    assert helper.featurize((x.clone(), y), tmp_path / "store", progress=False).rows_computed == 0
    x[3, 0, 0, 0] += 1
    store = helper.featurize((x, y), tmp_path / "store", progress=False)
    assert store.rows_computed == 1
    assert "1 row edited" in " ".join(store.reasons)


def test_pictures_are_read_without_decoding_to_see_that_they_are_the_same(tmp_path, photos, monkeypatch):
    helper, images = on_photos(photos)
    helper.featurize(images, tmp_path / "store", progress=False)
    fresh = tl.images.load(photos, split=None, size=32)
    monkeypatch.setattr("tlkit.images.pictures.decode", None)
    assert helper.featurize(fresh, tmp_path / "store", progress=False).rows_computed == 0


def test_several_boundary_tensors_can_be_stored(tmp_path):
    net, data = two_branches(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    store = helper.featurize(data, tmp_path / "store", progress=False)
    assert store.names == helper.unfrozen_network.inputs
    memory = helper.featurize(data, progress=False)
    assert all(torch.equal(store.load().tensors[name], memory.tensors[name]) for name in store.names)
    assert helper.fit_featurized(store, batch_size=4, progress=False).examples == 9


def test_a_path_may_be_text_or_a_path(tmp_path):
    net, data = vgg_like(tl.Sgd(0.1))
    helper = TransferLearningHelper(net)
    helper.featurize(data, tmp_path / "store", progress=False)
    assert helper.featurize(data, os.fspath(tmp_path / "store"), progress=False).rows_computed == 0


def test_a_store_leaves_a_copied_network_sharing_its_weights_with_the_original(tmp_path):
    net, images = vgg_like(tl.Sgd(0.1))
    copied = tl.TransferLearning(net).build()
    shared = [weight for weight in copied.parameters() if torch._C._is_cow_tensor(weight)]
    TransferLearningHelper(copied).featurize(images, tmp_path / "store", progress=False)
    assert shared
    assert all(torch._C._is_cow_tensor(weight) for weight in shared)


def test_a_frozen_part_that_normalizes_by_the_batch_at_hand_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    net = tl.Network.from_module(nn.Sequential(*module, nn.Linear(4 * 36, 2)), torch.zeros(1, 3, 8, 8))
    boundary = list(net.vertices)[-2]
    with pytest.raises(ValueError, match=r"normalizes by the batch at hand \(track_running_stats=False\)"):
        TransferLearningHelper(net, boundary)


# -- several boundary tensors ---------------------------------------------------------------------------------------


@pytest.mark.slow  # a store and two trainings
@pytest.mark.parametrize("updater", [tl.Nesterovs(0.05, 0.9), tl.Adam(0.01)], ids=["nesterovs", "adam"])
def test_training_on_several_boundary_tensors_from_memory_a_store_or_a_reopened_one_is_training_the_whole(
    updater, tmp_path
):
    boundary = ("set_feature_extractor", "left2", "right1")
    options = {"epochs": 3, "batch_size": 4, "progress": False}
    whole = apply(branches(updater), boundary)
    before = weights(whole)
    tl.fit(whole, pairs(), **options)
    assert moved(whole, before) == {"right2", "hidden", "answer"}

    sources = {
        "memory": lambda helper: helper.featurize(pairs(), progress=False),
        "store": lambda helper: helper.featurize(pairs(), tmp_path / "features", progress=False),
        "reopened": lambda helper: tl.FeatureStore(tmp_path / "features"),
        "loaded": lambda helper: tl.FeatureStore(tmp_path / "features").load(),
    }
    for source, features in sources.items():
        parts = apply(branches(updater), boundary)
        helper = tl.TransferLearningHelper(parts)
        data = features(helper)
        assert data.names == ("left1", "left2", "right1"), source
        helper.fit_featurized(data, **options)
        assert furthest(weights(parts), weights(whole)) <= 1e-5, source
        x, _ = pairs()
        assert torch.allclose(helper.output_from_featurized(helper.featurize(x)), whole(x), atol=1e-5)


def test_a_network_that_was_saved_reads_the_stored_features_of_several_boundaries(tmp_path):
    net = branches()
    built = apply(net, ("set_feature_extractor", "left2", "right1"))
    store = tl.TransferLearningHelper(built).featurize(pairs(), tmp_path / "features", progress=False)
    tl.save(built, tmp_path / "network.tlk")
    start = tl.Network({n: net.vertices[n] for n in list(net.vertices)[:-2]}, net.input_shapes, ["merged"])
    helper = tl.TransferLearningHelper(tl.load(tmp_path / "network.tlk", source=start))
    assert helper.unfrozen_network.inputs == store.names
    again = helper.featurize(pairs(), tmp_path / "features", progress=False)
    assert again.rows_computed == 0
    assert helper.fit_featurized(again, progress=False).examples == 10


def test_boundaries_given_to_the_helper_are_those_of_the_builder():
    built = apply(branches(), ("set_feature_extractor", "left2", "right1"))
    net = branches()
    helper = tl.TransferLearningHelper(net, "right1", "left2")
    assert net.frozen == built.frozen
    x, _ = pairs()
    features, expected = helper.featurize(x), tl.TransferLearningHelper(built).featurize(x)
    assert list(features) == list(expected)
    assert all(torch.equal(features[name], expected[name]) for name in expected)


def test_a_batch_that_lacks_a_boundary_tensor_is_an_error_that_names_what_is_read():
    helper = tl.TransferLearningHelper(branches(), "left2", "right1")
    features = helper.featurize(pairs()[0])
    del features["left1"]
    message = "takes the inputs 'left1', 'left2' and 'right1', got 'left2' and 'right1'"
    with pytest.raises(ValueError, match=message):
        helper.output_from_featurized(features)
    with pytest.raises(ValueError, match="reads 'left1', 'left2' and 'right1', the data hold 'left2' and 'right1'"):
        helper.fit_featurized((features, pairs()[1]), progress=False)


# -- training goes on -----------------------------------------------------------------------------------------------


def through_a_file(net, folder):
    path = tl.save(net, folder / "network.tlk", updater_state=True)
    start = tl.Network({n: net.vertices[n] for n in list(net.vertices)[:-2]}, net.input_shapes, ["merged"])
    return tl.load(path, source=start)


WAYS_ON = {
    "another helper": lambda net, folder: (net, "helper"),
    "the whole network": lambda net, folder: (net, "whole"),
    "a file and a helper": lambda net, folder: (through_a_file(net, folder), "helper"),
    "a file and the whole network": lambda net, folder: (through_a_file(net, folder), "whole"),
}


@pytest.mark.slow  # ten trainings
@pytest.mark.parametrize("way", WAYS_ON)
@pytest.mark.parametrize("updater", UPDATERS)
def test_training_after_the_helper_goes_on_where_it_ended(way, updater, tmp_path):
    options = {"batch_size": 4, "progress": False}
    once, twice = (apply(branches(UPDATERS[updater]), ("set_feature_extractor", "left2", "right1")) for _ in range(2))
    features = tl.TransferLearningHelper(once).featurize(pairs()[0])
    labels = pairs()[1]
    tl.TransferLearningHelper(once).fit_featurized((features, labels), epochs=5, **options)

    tl.TransferLearningHelper(twice).fit_featurized((features, labels), epochs=3, **options)
    assert twice.epochs_seen == 3
    twice, how = WAYS_ON[way](twice, tmp_path)
    assert twice.epochs_seen == 3
    if how == "helper":
        tl.TransferLearningHelper(twice).fit_featurized((features, labels), epochs=2, **options)
    else:
        tl.fit(twice, pairs(), epochs=2, **options)
    assert twice.epochs_seen == once.epochs_seen == 5
    assert furthest(weights(twice), weights(once)) <= (0 if how == "helper" else 1e-6)


# -- freezing and unfreezing behind the helper's back ---------------------------------------------------------------

REFREEZINGS = {
    "more is frozen": lambda net: net.freeze("hidden"),
    "less is frozen": lambda net: net.unfreeze(),
    "gradients pass": lambda net: net.freeze("hidden", backprop=True),
}
USES = {
    "featurize": lambda helper, features: helper.featurize(pairs(), progress=False),
    "fit": lambda helper, features: helper.fit_featurized((features, pairs()[1]), progress=False),
    "solve": lambda helper, features: helper.fit_featurized((features, pairs()[1]), solver="lbfgs"),
    "answer": lambda helper, features: helper.output_from_featurized(features),
    "plan": lambda helper, features: helper.plan(pairs()),
    "frozen": lambda helper, features: helper.frozen_network,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("change", REFREEZINGS)
def test_a_helper_whose_network_was_frozen_otherwise_since_then_is_refused(change, use):
    net = apply(branches(), ("set_feature_extractor", "left2", "right1"))
    helper = tl.TransferLearningHelper(net)
    features = helper.featurize(pairs()[0])
    marks = dict.fromkeys(net.frozen, False)
    REFREEZINGS[change](net)
    before = weights(net)
    with pytest.raises(ValueError, match=r"changed after the helper was made: '.*Make another one, tl.TransferL"):
        USES[use](helper, features)
    assert moved(net, before) == set()
    net.freeze_exactly(marks)
    helper.fit_featurized((features, pairs()[1]), progress=False)
    assert moved(net, before).isdisjoint(marks)
