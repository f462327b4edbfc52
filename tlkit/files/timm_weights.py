"""Weights of timm's networks: from where timm finds them, and one sentence when they cannot come.

timm downloads them itself, most of them from the Hugging Face hub. Left alone, it asks the hub about files that lie
here already, tries for most of a minute where there is no network, and knows nothing of ``TLKIT_OFFLINE``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safetensors import SafetensorError
from torch import hub, nn

from tlkit.files.downloads import DownloadError, describe_failure, home, offline
from tlkit.memory import readable_size

__all__ = ["load_pretrained"]

FILE = "model.safetensors"  # of nearly every network on the hub


def load_pretrained(name: str, **options: Any) -> nn.Module:
    """Make one of timm's networks with the weights that it was trained to; once they are here, without a connection.

    Parameters
    ----------
    name : str
        timm's name for it, such as "resnet18" or "resnet18.a1_in1k".
    **options
        Arguments of the network's constructor.

    Raises
    ------
    ValueError
        When there are no such weights, or the file here holds something else.
    DownloadError
        When they are not here and cannot come; the message says where to put them by hand.
    """
    import timm

    make = partial(timm.create_model, name, pretrained=True, **options)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        msg = f"timm has no weights for '{name}'. Give a file of weights, or weights=None for random ones."
        raise ValueError(msg)
    here = _here(config)
    if here is not None and here.suffix == ".safetensors":
        return _filled(make, name, here)
    if here is None and offline():
        raise _failure(name, config, f"not tried, since TLKIT_OFFLINE={os.environ['TLKIT_OFFLINE']}")
    try:
        return make()
    except OSError as error:
        raise _failure(name, config, " ".join(str(error).split()) or type(error).__name__) from error


def _filled(make: Callable[..., nn.Module], name: str, file: Path) -> nn.Module:
    try:
        return make(pretrained_cfg_overlay={"file": str(file), "custom_load": False})
    except (SafetensorError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:300]
        msg = f"{file} is damaged, or holds other weights than those of timm/{name}: {problem} Remove it and try again."
        raise ValueError(msg) from error


def _here(config: Any) -> Path | None:
    """Return the file of weights, put here by hand or downloaded earlier."""
    by_hand = _by_hand(config)
    if by_hand.is_file():
        return by_hand
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(*_place(config))
        return Path(found) if isinstance(found, str) else None
    return None


def _by_hand(config: Any) -> Path:
    """Return where a file that was brought by hand is looked for."""
    if config.hf_hub_id:
        return home() / "weights" / re.sub(r"[^\w.-]", "-", f"{config.hf_hub_id}.safetensors")
    return Path(hub.get_dir(), "checkpoints", urlsplit(config.url).path.rpartition("/")[2])  # timm looks there


def _place(config: Any) -> tuple[str, str]:
    return config.hf_hub_id, config.hf_hub_filename or FILE


def _failure(name: str, config: Any, problem: str) -> DownloadError:
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(*_place(config)) if config.hf_hub_id else config.url
    what = f"The weights of timm/{name} (about {readable_size(_size(name))})"
    return DownloadError(describe_failure(what, [f"{url}: {problem}"], url, f"save it as {_by_hand(config)}"))


def _size(name: str) -> int:
    import timm

    from tlkit.files.weights import make_module

    return sum(value.nbytes for value in make_module(partial(timm.create_model, name)).state_dict().values())
