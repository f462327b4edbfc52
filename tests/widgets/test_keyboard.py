"""What all widgets share: the keyboard guard, and a face for viewers without widgets. Browser tests press the keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ipywidgets")
pytest.importorskip("anywidget")

import ipywidgets

from tlkit.widgets import keyboard
from tlkit.widgets.face import Panel
from tlkit.widgets.keyboard import GUARDED, KeyboardGuard


class Small(Panel):
    def face(self):
        return "<p>Small</p>"

    def __repr__(self):
        return "Small()"


def test_a_panel_guards_its_controls_and_has_a_face_that_stands_still():
    button = ipywidgets.Button(description="Go")
    panel = Small([button])
    assert panel.children[0] is button
    assert isinstance(panel.children[-1], KeyboardGuard)
    assert GUARDED in panel._dom_classes
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "Small()"
    assert bundle["text/html"] == "<p>Small</p>"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_the_guard_knows_the_class_of_the_boxes_it_guards():
    assert f'".{GUARDED}"' in KeyboardGuard()._esm
    assert repr(KeyboardGuard()) == "KeyboardGuard()"


def test_every_script_and_style_sheet_is_part_of_the_package():
    project = Path(__file__).parents[2] / "pyproject.toml"
    folder = Path(keyboard.__file__).parent
    suffixes = {path.suffix for path in folder.iterdir() if path.is_file()} - {".py"}
    assert suffixes == {".js", ".css"}
    assert '"widgets/*.js", "widgets/*.css"' in project.read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["ipywidgets", "anywidget"])
def test_without_its_package_a_widget_says_what_to_install(package):
    code = f"import sys; sys.modules['{package}'] = None; import tlkit as tl; tl.FreezePicker"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"The widgets need the package {package}. Install it" in done.stderr


@pytest.mark.slow
def test_importing_tlkit_loads_no_widgets_and_no_figures():
    code = (
        "import sys, tlkit as tl; tl.check('05.1', 1); tl.Network; "
        "print([name for name in ('anywidget', 'ipywidgets', 'matplotlib', 'IPython') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
