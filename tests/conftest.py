"""What all tests share: markers for what a machine may lack, each skipped with its reason."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

# nbformat's validator would compile a grammar for international addresses at import: two seconds.
sys.modules.setdefault("rfc3987_syntax", None)

from hypothesis import settings  # noqa: E402

ROOT = Path(__file__).parent.parent
PHOTOS = (os.environ.get("TLKIT_TEST_PHOTOS", ""), ROOT.parent / "shared" / "data" / "flower_photos.tgz")

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that: tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("tlkit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tlkit")


def photos_at() -> Path | None:
    """Return the flower photos (an archive or a folder), or None where there are none."""
    return next((Path(place) for place in PHOTOS if str(place) and Path(place).exists()), None)


@pytest.fixture(scope="session")
def photos() -> Path:
    """The flower photos, an archive or a folder; for tests marked ``photos``."""
    found = photos_at()
    assert found is not None, "Mark the test with @pytest.mark.photos."
    return found


@pytest.fixture(scope="session")
def vgg():
    """A narrow VGG16; tests must not change it."""
    from nets import everything, furthest, narrow_vgg16, weights

    net = narrow_vgg16()
    before, tensors = everything(net), weights(net)
    yield net
    assert everything(net) == before
    assert furthest(weights(net), tensors) == 0


@pytest.fixture(scope="session")
def server():
    """A server that speaks S3, as this process's environment says; for tests marked ``s3``."""
    from objects import serving

    with pytest.MonkeyPatch.context() as patch, serving(patch.setenv) as server:
        yield server


@pytest.fixture
def s3(server):
    """The server, with nothing asked of it yet."""
    server.forget()
    yield server
    server.forget()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {"network": _no_network, "gpu": _no_gpu, "photos": _no_photos, "ray": _no_ray, "s3": _no_s3}
    for marker, lacking in reasons.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        reason = lacking() if marked else ""
        for item in marked if reason else ():
            item.add_marker(pytest.mark.skip(reason=reason))


def _no_network() -> str:
    return "" if os.environ.get("TLKIT_TEST_NETWORK") == "1" else "needs the internet (TLKIT_TEST_NETWORK=1)"


def _no_gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else "needs a CUDA device"


def _no_ray() -> str:
    import importlib.util

    return "" if importlib.util.find_spec("ray") else "needs Ray: pip install 'tlkit[ray]'"


def _no_s3() -> str:
    import importlib.util

    lacking = [name for name in ("s3fs", "moto", "flask_cors") if importlib.util.find_spec(name) is None]
    return f"needs a server that speaks S3: pip install 'tlkit[cloud]' 'moto[server]' ({lacking[0]})" if lacking else ""


def _no_photos() -> str:
    return "" if photos_at() else "needs the flower photos (TLKIT_TEST_PHOTOS=archive or folder)"
