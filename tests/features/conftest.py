"""What the tests of features share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch):
    """Only a power cut needs `fsync`, and that it is called is tested with the shards."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
