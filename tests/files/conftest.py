from __future__ import annotations

import pytest
from transfers import NAME, remote_at

from tlkit.files import resuming, web


@pytest.fixture
def transfers(tmp_path, monkeypatch):
    """No setting of the machine counts, and nobody waits."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TLKIT_MIRROR", raising=False)
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    monkeypatch.setattr(resuming, "BACK_OFF", 0.001)
    monkeypatch.setattr(web, "TIMEOUT", (5, 5))


@pytest.fixture
def remote(server):
    return remote_at(server.url(f"/{NAME}"))
