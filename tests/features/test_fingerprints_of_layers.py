"""Every layer of torch, torchvision and timm: each argument of its constructor shows in what it computes, in words."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import timm.layers
import torch
import torchvision
from nets import seeded
from torch import nn

from tlkit.features.fingerprints import described

# a value for each argument that must be given, by its name
GIVEN = [
    (32, "in_channels num_features dim in_features num_channels channels input_size hidden_size normalized_shape"),
    (32, "normalization_shape num_input_features inplanes hidden_dim d_model in_channel inp oup in_ch out_ch mlp_dim"),
    (32, "input_channels num_output_features n_classes width_in width_out feat_dim stem_channels high_channels"),
    (32, "embed_dim"),
    (4, "num_classes head_dim out_features num_embeddings embedding_dim in1_features in2_features squeeze_channels"),
    (4, "squeeze_planes expand1x1_planes expand3x3_planes group_width ch1x1 ch3x3red ch3x3 ch5x5red ch5x5 pool_proj"),
    (4, "pool_features channels_7x7 max_seq_len low_channels hidden_features"),
    (2, "num_heads output_size stride sampling_ratio planes patch_size size nhead bn_size growth_rate groups"),
    (2, "num_groups upscale_factor downscale_factor num_chunks expansion_factor partition_size crop_size"),
    (0.5, "value spatial_scale p threshold alpha layer_scale squeeze_ratio"),
    (0.1, "attention_dropout stochastic_depth_prob dropout mlp_dropout drop_rate lower"),
    (2.0, "mlp_ratio expansion_ratio bottleneck_multiplier norm_type a"),
    ((2, 2), "window_size shift_size grid_size base_patch_size spatial_size unflattened_size"),
    ([4, 4], "hidden_channels in_channels_list input_grid_size"),
    (3, "kernel_size block_size"),
    (1, "padding num_layers"),
]
GIVEN = {name: value for value, names in GIVEN for name in names.split()}
GIVEN |= {"out_channels": 64, "b": 2.5, "mode": "row", "bias": True, "norm_layer": nn.LayerNorm, "cutoffs": [2]}
GIVEN |= {"activation_layer": nn.ReLU, "featmap_names": ["0"], "partition_type": "grid", "dims": (0, 2, 1)}
SMALL = dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), 1) | {
    "dim_feedforward": 8,
    "d_model": 32,
    "nhead": 2,
}
RECURRENT = {"input_size": 4, "hidden_size": 4}

# other values, by name; the others follow from the usual one
OTHER = {
    "act_layer": [nn.GELU, nn.Tanh, "gelu"],
    "activation": ["gelu", nn.GELU],
    "approximate": ["tanh"],
    "channels": [64, 256],
    "dtype": [torch.float64],
    "gate_layer": ["hard_sigmoid", "sigmoid"],
    "grid_indexing": ["xy"],
    "input_fmt": ["NHWC"],
    "interpolation": ["bilinear"],
    "kernel_size": [5, 7, (5, 7)],
    "mode": ["bilinear", "max", "sum", "GRU"],
    "nonlinearity": ["relu"],
    "norm_layer": [nn.BatchNorm2d, nn.LayerNorm, nn.Identity, timm.layers.LayerNorm2d],
    "normalize_coords": ["max", "min"],
    "output_fmt": ["NHWC"],
    "pad_mode": ["constant"],
    "padding": [2, "same", "valid", ""],
    "padding_mode": ["reflect"],
    "pool_type": ["max", "avg", "token"],
    "reduce": [False],
    "reduction": ["sum"],
    "size_average": [False],
    "stride": [2, 1, 3],
    "weight": [torch.ones(4)],
}
# what does not change what a frozen vertex computes, and why
WITHOUT_EFFECT = {
    "what acts in training only": "attn_drop proj_drop drop dropout drop_rate drop_prob p stochastic_depth_prob "
    "p_stochastic_dropout scale_by_keep gamma_scale with_noise couple_channels drop_layer _freeze",
    "where it computes": "device",
    "the first numbers of a weight, which the key has apart": "layer_scale r r_learnable init_weights init",
}
WITHOUT_EFFECT = {name: why for why, names in WITHOUT_EFFECT.items() for name in names.split()}
DROPS = "drops in training only"
EXEMPT = {
    (
        "inplace",
        "DropBlock2d DropBlock3d Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout",
    ): DROPS,
    ("block_size", "DropBlock2d DropBlock3d"): DROPS,
    ("eps", "DropBlock2d DropBlock3d"): DROPS,
    ("mode", "StochasticDepth"): DROPS,
    ("inplace", "GELU GELUTanh Mish PReLU QuickGELU"): "the class ignores it",
    ("padding", "Conv2dSame AvgPool2dSame"): "the class ignores it",
    ("prefix_tokens", "RelPosBiasTf"): "the class ignores it",
    ("align_to", "SwiGLU"): "rounds a size that it fits already",
    ("rd_divisor", "SplitAttn EcaModule"): "rounds a size that it fits already",
    ("dtype", "InstanceNorm1d InstanceNorm2d InstanceNorm3d AttentionPoolPrr"): "has no weights as it is usually made",
    ("bias", "InstanceNorm1d InstanceNorm2d InstanceNorm3d"): "has no weights as it is usually made",
    ("norm_layer", "Attention AttentionRope DiffAttention MultiQueryAttention2d"): "normalizes when asked to only",
    ("norm_layer", "AttentionPoolPrr"): "normalizes when asked to only",
    ("aa_layer", "ConvNormAct SelectiveKernel"): "blurs with a stride only",
    ("expand_first", "Attention2d"): "has one width as it is usually made",
    ("act_layer", "EcaModule ClNormMlpClassifierHead NormMlpClassifierHead"): "has none as it is usually made",
    ("rd_ratio rd_channels gamma beta", "EcaModule CecaModule"): "follows from another argument as it is usually made",
    ("dw_kernel_size dilation", "MultiQueryAttention2d"): "has no such layer as it is usually made",
}
EXEMPT = {
    (name, kind): why for (names, kinds), why in EXEMPT.items() for name in names.split() for kind in kinds.split()
}
# networks, not layers: they take seconds to make
NETWORKS = {"AlexNet", "DenseNet", "GoogLeNet", "Inception3", "MNASNet", "MobileNetV2", "S3D", "SqueezeNet"}


def layers() -> dict[str, type[nn.Module]]:
    """Return the classes by their full names."""
    models = [f"torchvision.models.{found.name}" for found in pkgutil.iter_modules(torchvision.models.__path__)]
    homes = [nn, timm.layers, *map(importlib.import_module, ["torchvision.ops", "torchvision.ops.misc", *models])]
    found = [kind for home in homes for kind in vars(home).values() if inspect.isclass(kind)]
    return {
        f"{kind.__module__}.{kind.__qualname__}": kind
        for kind in found
        if issubclass(kind, nn.Module) and kind.__name__ not in NETWORKS and "quantization" not in kind.__module__
    }


def parameters_of(kind: type[nn.Module]) -> dict[str, Any]:
    """Return the arguments of a constructor with the values that they have unless another is tried."""
    found = inspect.signature(nn.RNNBase if issubclass(kind, nn.RNNBase) else kind).parameters.values()
    named = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    given = {p.name: GIVEN[p.name] if p.default is p.empty else p.default for p in named}
    if issubclass(kind, nn.RNNBase):
        left_out = {"mode"} if kind is nn.LSTM else {"mode", "proj_size"}
        return {name: value for name, value in given.items() if name not in left_out} | RECURRENT
    return given | {name: SMALL[name] for name in given if name in SMALL}


def others(name: str, value: Any) -> list[Any]:
    """Return values to try instead of the usual one."""
    if isinstance(value, bool):
        return [not value]
    if name in OTHER:
        return OTHER[name]
    if name.endswith("kwargs"):
        return [{"eps": 0.5}, {"inplace": False}, {"bias": True}]
    if isinstance(value, int):
        return [value + 1, value * 2, 2, 4, 8 * value]
    if isinstance(value, float):
        return [value / 2 + 0.125, 4 * value, 1.0]
    if isinstance(value, (tuple, list)):
        return [type(value)(item * 2 for item in value)] if all(isinstance(i, (int, float)) for i in value) else []
    if inspect.isclass(value) or inspect.isfunction(value):
        return [nn.GELU, nn.BatchNorm2d, nn.Identity, nn.Tanh]
    return [2, True, 0.25, (2, 2), nn.GELU, nn.LayerNorm, "mean"] if value is None else []


def made(kind: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    with seeded(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**arguments)


def tried(kind: type[nn.Module], usual: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield each argument that has another valid value, with whether one of them changes the description."""
    before = described(made(kind, usual))
    for name, value in usual.items():
        found = []
        for other in others(name, value):
            if type(other) is type(value) and other == value:
                continue
            try:
                found.append(described(made(kind, {**usual, name: other})) != before)
            except Exception:  # no valid value
                continue
            if found[-1]:
                break
        if found:
            yield name, any(found)


@pytest.mark.slow
def test_every_argument_of_every_layer_shows():
    shown, hidden, skipped = 0, [], {}
    for name, kind in layers().items():
        try:
            usual = parameters_of(kind)
            made(kind, usual)
        except Exception as error:  # needs what cannot be made up: a network, a table of blocks
            skipped[name] = f"{type(error).__name__}: {error}"
            continue
        for argument, shows in tried(kind, usual):
            shown += shows
            exempt = argument in WITHOUT_EFFECT or (argument, kind.__name__) in EXEMPT
            if not shows and not exempt:
                hidden.append((name, argument))
    assert hidden == []
    assert shown > 1200
    assert len(skipped) < 55, skipped


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        (nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
        (nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, divisor_override=2)),
        (
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        ),
        (nn.LSTM(2, 2), nn.LSTM(2, 2, batch_first=True)),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU6())),
    ],
)
def test_what_a_printout_may_leave_out_shows(one, other):
    assert described(one) != described(other)


def test_a_forward_leaves_the_description_alone():
    net = timm.create_model("levit_128s").eval()
    before = described(net)
    with torch.no_grad():
        net(torch.zeros(1, 3, 224, 224))
    assert described(net) == before
