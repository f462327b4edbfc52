"""What a network expects of its input images: size, crop, and the mean and standard deviation of its weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """How images become a network's input; it travels with the weights.

    Decoding (`tl.images.load(..., size=network.preprocessing)`) follows `size`, `resize` and `interpolation`
    and keeps the pixels as uint8. The network itself applies `mean` and `std`, on its own device.

    Parameters
    ----------
    size : int
        Height and width of the square center crop, in pixels.
    resize : int
        Length of the image's shorter side before the crop, in pixels.
    interpolation : {"bilinear", "bicubic"}
        Filter of the resize; antialiased.
    mean, std : tuple of 3 floats
        Per-channel statistics (red, green, blue) of images scaled to 0..1.
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            msg = f"The crop cannot be larger than the resized image: size={self.size}, resize={self.resize}."
            raise ValueError(msg)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            msg = f"mean and std hold a number for red, green and blue, std above 0; got {self.mean} and {self.std}."
            raise ValueError(msg)

    @classmethod
    def from_torchvision(cls, weights: Any) -> Preprocessing:
        """Read the settings from a member of a torchvision weights enum."""
        transform = weights.transforms()
        return cls(
            size=transform.crop_size[0],
            resize=transform.resize_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        )

    @classmethod
    def from_timm(cls, config: dict[str, Any]) -> Preprocessing:
        """Read the settings from a timm model's `pretrained_cfg`."""
        size = config["input_size"][-1]
        return cls(
            size=size,
            resize=math.floor(size / config["crop_pct"]),
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize uint8 images of shape (n, 3, height, width) to float32."""
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (images.float() / 255 - mean) / std

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, for JSON."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preprocessing:
        """Undo `to_dict`."""
        return cls(**{**settings, "mean": tuple(settings["mean"]), "std": tuple(settings["std"])})
