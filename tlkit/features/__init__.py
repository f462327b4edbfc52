"""What the frozen part says of a data set, computed once: in memory, and in a store on disk that resumes."""

from __future__ import annotations

from tlkit.features.rows import FeatureRows, Features
from tlkit.features.store import FeatureStore, StoreError

__all__ = ["FeatureRows", "FeatureStore", "Features", "StoreError"]
