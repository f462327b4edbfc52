"""What can be fetched ahead of time, by the name that a notebook uses for it: "photos", "vgg16", "resnet50"."""

from __future__ import annotations

from tlkit.errors import near_misses, quoted
from tlkit.files.downloads import FLOWER_PHOTOS, VGG16, Remote, weights_remote

__all__ = ["LESSONS", "WITHOUT_DOWNLOAD", "describe", "files", "find"]

# name -> what the notebooks and `make full` can ask for
LESSONS = {"photos": FLOWER_PHOTOS, "vgg16": VGG16}

# what people may think has to be fetched, and why it hasn't
WITHOUT_DOWNLOAD = {
    "drawn": "the flowers are drawn by code",
    "efficientnet_lite0": "its weights came with tlkit, in a package",
    "efficientnet_lite1": "its weights came with the notebooks, in a package",
}


def find(name: str) -> Remote:
    """Return the file behind a name.

    Parameters
    ----------
    name : str
        "photos", or a network of torchvision such as "vgg16".

    Raises
    ------
    ValueError
        When there is no such file, with near misses.

    Examples
    --------
    >>> from tlkit.commands.catalog import find
    >>> find("vgg16").name
    'vgg16-397923af.pth'
    """
    if name in LESSONS:
        return LESSONS[name]
    if name.startswith("timm/"):
        msg = (
            f"{name} cannot be fetched ahead: its weights lie elsewhere, with no hash to check them by. "
            f"With a network, call tl.zoo.load({name!r}) once; later calls need none."
        )
        raise ValueError(msg)
    known = files()
    if name not in known:
        msg = (
            f"There is nothing to fetch by the name '{name}'.{near_misses(name, known)} Expected is "
            f"{quoted(LESSONS, 'or')}, or another of torchvision's networks: tl.zoo.names() lists them."
        )
        raise ValueError(msg)
    return known[name]


def describe(name: str) -> str:
    """Say what is in the file behind a name."""
    return "photos of five kinds of flowers" if name == "photos" else f"ImageNet weights of {name}"


def files() -> dict[str, Remote]:
    """Return every file by its name: those of the lessons first, then the weights of torchvision's other networks."""
    from torchvision import models

    networks = models.list_models(module=models)
    return LESSONS | {name: weights_remote(next(iter(models.get_model_weights(name)))) for name in sorted(networks)}
