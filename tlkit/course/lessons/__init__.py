"""The machinery behind the notebooks: runs, renders, normalizes and checks them.

``python -m tlkit.course.lessons --help`` shows the commands; the Makefile calls them.
"""

from __future__ import annotations

import sys

__all__ = ["costs", "normalizer", "pages", "parameters", "rules", "runner"]

# nbformat's validator would compile a grammar for international addresses at import: two seconds in every process.
sys.modules.setdefault("rfc3987_syntax", None)
