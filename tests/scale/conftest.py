"""What the tests of the scale package share."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
for folder in (TESTS, TESTS / "reliability", TESTS / "scale"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
