"""Transfer learning, learned by doing it.

Edit a network, hold part of it constant, and train the rest: on images, or once and for all on what the constant part
says of them. Everything hangs under one name::

    import tlkit as tl
"""

from __future__ import annotations

import importlib  # nothing else: until `__main__` runs, Ctrl-C would print a traceback

__version__ = "0.1.0"

# public name -> the module that holds it; loaded on first use, so that importing tlkit stays quick
_HOMES = {
    name: module
    for module, names in {
        "builder": ("TransferLearning",),
        "course.checks": ("check",),
        "layers.constraints": ("MaxNorm", "NonNegative", "UnitNorm"),
        "training.head_grid": ("head_grid",),
        "training.evaluation": ("Evaluation", "evaluate"),
        "exporting": ("export_onnx",),
        "features.rows": ("Features",),
        "graph.network": ("Landmarks", "Network", "Vertex"),
        "helper": ("TransferLearningHelper",),
        "layers.initializers": ("Constant", "LogNormal", "Normal", "Orthogonal", "TruncatedNormal", "Uniform"),
        "layers.descriptions": (
            "Activation", "BatchNorm", "Conv2d", "Dense", "Dropout", "ElementWise", "Flatten", "GlobalPool", "Loss",
            "Merge", "Output", "Pool2d", "Subset",
        ),
        "training.listeners": ("EarlyStopping", "EvaluateEvery", "Listener", "Unfreeze"),
        "layers.losses": ("MISSING",),
        "layers.noise": ("DropConnect",),
        "images.preprocessing": ("Preprocessing",),
        "profiling": ("freeze_profile",),
        "saving": ("load", "save"),
        "features.store": ("FeatureStore",),
        "training.loop": ("History", "device", "fit"),
        "tuning": ("FineTuneConfiguration",),
        "layers.updaters": ("AdaDelta", "AdaGrad", "AdaMax", "Adam", "AdamW", "Nadam", "Nesterovs", "RmsProp", "Sgd"),
        "widgets": ("FreezePicker", "HeadDesigner", "MistakeBrowser", "Predictor", "TrainingMonitor"),
    }.items()
    for name in names
}  # fmt: skip
_MODULES = {name: name for name in ("images", "plots", "scale", "widgets", "zoo")} | {"drawing": "images.drawing"}

__all__ = ["__version__", *sorted(_HOMES), *_MODULES]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"tlkit.{_MODULES[name]}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"tlkit.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    from tlkit.errors import near_misses

    msg = f"tlkit has no '{name}'.{near_misses(name, __all__)}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return list(__all__)
