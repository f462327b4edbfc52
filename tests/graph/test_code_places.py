from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tlkit.graph.code_places import find_current_line, find_failure
from tlkit.graph.importing import from_module, take_over


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)


def line_of(text: str) -> int:
    """Return the number of the line of this file that says it."""
    (number,) = (n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.strip() == text)
    return number


def around(part: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), part, nn.Linear(4, 2))


def test_an_error_inside_of_torch_is_the_line_that_called_it():
    class Wide(Plain):
        def forward(self, x):
            return self.layer(x.repeat(1, 2))  # too wide

    with pytest.raises(RuntimeError) as caught:
        around(Wide())(torch.zeros(1, 4))
    text = "return self.layer(x.repeat(1, 2))  # too wide"
    place = f"test_code_places.py, line {line_of(text)}, in Wide.forward: `{text}`"
    assert find_failure(caught.value) == (place, Wide)


def test_the_line_that_runs_is_the_users_also_from_inside_of_a_library():
    class Asks(Plain):
        def forward(self, x):
            self.place = find_current_line()  # here
            return x

    asks = Asks()
    around(asks)(torch.zeros(1, 4))
    text = "self.place = find_current_line()  # here"
    assert asks.place == f"test_code_places.py, line {line_of(text)}, in forward: `{text}`"


def test_the_line_of_a_helper_is_named_and_the_class_of_the_module_that_calls_it():
    def positive(x):
        return bool(x.sum() > 0)  # the line of the helper

    class Calls(Plain):
        def forward(self, x):
            return self.layer(x) if positive(x) else x

    number = line_of("return bool(x.sum() > 0)  # the line of the helper")
    with pytest.raises(ValueError, match=rf"test_code_places\.py, line {number}, in positive: .*leaves=\[Calls\]"):
        from_module(around(Calls()), [torch.zeros(1, 4)])


@pytest.mark.slow
def test_a_line_in_a_library_is_named_by_the_module_that_holds_it():
    with torch.device("meta"):
        module = nn.Sequential(models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None))
    with pytest.raises(ValueError, match=r"beyond ssd\.py, line \d+, in SSD\.forward: `for img in images:`.*=\[SSD\]"):
        take_over(module, torch.zeros(1, 3, 32, 32))


def test_a_line_of_a_notebook_is_named_as_such(tmp_path):
    cell = tmp_path / "ipykernel_12" / "345.py"
    cell.parent.mkdir()
    cell.write_text(
        "class Gate(Plain):\n    def forward(self, x):\n        return x if x.max() > 0 else self.layer(x)\n"
    )
    names = {"Plain": Plain}
    exec(compile(cell.read_text(), cell, "exec"), names)
    sentence = r"the notebook's cell, line 3, in Gate\.forward: `return x if x\.max\(\) > 0 else self\.layer\(x\)`"
    with pytest.raises(ValueError, match=sentence):
        from_module(names["Gate"](), [torch.zeros(1, 4)])
