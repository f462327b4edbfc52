"""A file that is fetched from a server on this machine, as the tests of transfers need it."""

from __future__ import annotations

import hashlib
import random

import pytest

from tlkit.files.downloads import DownloadError, Remote, fetch, home

CONTENT = random.Random(16).randbytes(500_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"vgg16-{DIGEST[:8]}.pth"
OTHER = random.Random(17).randbytes(len(CONTENT))
FINISHED = {NAME, f"{NAME}.sha256"}
PART = {f"{NAME}.{DIGEST[:8]}.part", f"{NAME}.{DIGEST[:8]}.part.json"}


def remote_at(*urls: str, **changes) -> Remote:
    return Remote(
        **{"name": NAME, "urls": urls, "sha256": DIGEST, "size": len(CONTENT), "folder": "weights", **changes}
    )


def lying_there() -> set[str]:
    """Names of what is in the folder, but for the lock."""
    return {path.name for path in (home() / "weights").iterdir()} - {f"{NAME}.lock"}


def failure(remote: Remote) -> str:
    """Text of the error; asserts that nothing came to lie under the file's name."""
    with pytest.raises(DownloadError) as caught:
        fetch(remote, progress=False)
    assert not remote.path.exists()
    text = str(caught.value)
    assert all(url in text for url in remote.urls)
    assert f"save it as {remote.path}" in text
    return text
