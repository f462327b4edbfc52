"""The figures of the notebooks, each one call."""

from __future__ import annotations

from tlkit.plots.charts import bars, confusion_matrix, learning_curves
from tlkit.plots.figure import Picture
from tlkit.plots.photo_grid import image_grid
from tlkit.plots.strip import network_strip
from tlkit.plots.tradeoffs import freeze_profile

__all__ = ["Picture", "bars", "confusion_matrix", "freeze_profile", "image_grid", "learning_curves", "network_strip"]
