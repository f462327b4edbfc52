"""Widgets: see at once what a choice does. Each one also has `.code`, the Python that does the same without it."""

from __future__ import annotations

try:
    import anywidget  # noqa: F401
    import ipywidgets  # noqa: F401
except ModuleNotFoundError as error:
    msg = f"The widgets need the package {error.name}. Install it: pip install 'ipywidgets>=8.1' 'anywidget>=0.9'."
    raise ModuleNotFoundError(msg) from error

from tlkit.widgets.freeze_picker import FreezePicker
from tlkit.widgets.head_bench import Run
from tlkit.widgets.head_designer import HeadDesigner
from tlkit.widgets.heads import Head
from tlkit.widgets.holding_out import hold_out
from tlkit.widgets.mistake_browser import MistakeBrowser
from tlkit.widgets.predictor import Predictor
from tlkit.widgets.training_monitor import TrainingMonitor

__all__ = ["FreezePicker", "Head", "HeadDesigner", "MistakeBrowser", "Predictor", "Run", "TrainingMonitor", "hold_out"]
