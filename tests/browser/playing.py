"""Playwright for those who have it: test modules that import from here are skipped where it is missing."""

from __future__ import annotations

import os

import pytest

if os.environ.get("TLKIT_TEST_BROWSER") != "1":
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'tlkit[test]'")

from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright

__all__ = ["FOUND_WITHIN", "BrowserContext", "Locator", "Page", "expect", "sync_playwright"]

FOUND_WITHIN = 30_000  # milliseconds; nothing takes that long, but a busy machine may

expect.set_options(timeout=FOUND_WITHIN)
