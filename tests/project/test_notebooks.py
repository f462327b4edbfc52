"""The committed notebooks: complete, in the house's form, and compared by nbval where it counts."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from tlkit.course.lessons import costs, rules, runner
from tlkit.course.lessons.__main__ import main

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PAGE = (
    "00_transfer_learning_api",
    "01_transfer_learning_helper",
    "02_show_me_the_code",
    "03_import_a_zoo_model",
    "04_fine_tune_configuration",
    "05_edit_the_last_layer",
    "06_attach_at_the_bottleneck",
    "07_fine_tune_a_saved_model",
    "08_featurize_and_fit",
    "09_notes",
    "10_utilities",
    "11_your_own_photos",
    "12_where_to_freeze",
    "13_beyond_one_machine",
)
NOT_COMPARED = ("nbval-ignore-output", "nbval-skip")
SANITIZE = re.findall(
    r"^regex: (.*)\n^replace: (.*)", (ROOT / "tests/nbval_sanitize.cfg").read_text("utf-8"), re.MULTILINE
)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def sanitized(text: str) -> str:
    """What nbval compares of an output."""
    for pattern, replacement in SANITIZE:
        text = re.sub(pattern, replacement, text)
    return text


def says_something(output: nbformat.NotebookNode) -> bool:
    """Whether nbval compares more of an output than the name of a figure."""
    data = output.get("data", {})
    texts = [output.get("text", ""), output.get("evalue", "")]
    texts += [str(value) for mime, value in data.items() if not mime.startswith("image/")]
    left = " ".join(
        re.sub(r"<Figure size .*>|TIME|DATE|PICTURE|PROGRESS|ADDRESS", "", sanitized(text)) for text in texts
    )
    return len(re.findall(r"\w", left)) >= 3


def compared(path: Path) -> list[str]:
    """The sources of the cells whose outputs nbval compares."""
    return [
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        and cell.execution_count is not None
        and not set(cell.metadata.get("tags", ())) & set(NOT_COMPARED)
        and not re.search(r"NBVAL_(IGNORE_OUTPUT|SKIP)", cell.source)
        and any(says_something(output) for output in cell.outputs)
    ]


def test_the_page_is_complete():
    assert tuple(path.stem for path in NOTEBOOKS) == PAGE


@pytest.mark.slow
def test_notebooks_compare_enough_cells():
    counts = {path.stem: len(compared(path)) for path in NOTEBOOKS}
    assert counts, "there is no notebook"
    assert {name: count for name, count in counts.items() if count < 3} == {}
    assert sum(counts.values()) >= 60, counts


@each_notebook
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_notebook_keeps_the_rules(path, rule):
    assert list(rule(path, nbformat.read(path, as_version=4))) == []


def test_notebooks_run_in_six_minutes():
    cards = [costs.card_cost(nbformat.read(path, as_version=4).cells[0].source) for path in NOTEBOOKS]
    assert cards, "there is no notebook"
    assert sum(card.seconds for card in cards if card) <= 360


@each_notebook
def test_links_between_notebooks_lead_somewhere(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    targets = [target.split("#")[0] for target in re.findall(r"\]\((?!https?:|#|attachment:)([^)\s]+)\)", text)]
    assert [target for target in targets if not (FOLDER / target).exists()] == []


# other parameters


@pytest.fixture
def kernels(monkeypatch):
    """Let the notebooks' kernels import this checkout, whatever is installed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)


def text_of(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    data = [value for output in outputs for value in output.get("data", {}).values() if isinstance(value, str)]
    return "\n".join([output.get("text", "") for output in outputs] + data)


@pytest.fixture(scope="module")
def tiny_photos(tmp_path_factory) -> Path:
    """Three classes of little pictures that color alone tells apart."""
    folder = tmp_path_factory.mktemp("photos") / "skies"
    for name, hue in (("dawn", 10), ("noon", 150), ("night", 220)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            picture = Image.linear_gradient("L").resize((64, 64)).rotate(9 * number)
            solid = [Image.new("L", picture.size, value) for value in (hue, 200)]
            Image.merge("HSV", (*solid, picture)).convert("RGB").save(folder / name / f"{number}.jpg")
    return folder


@pytest.mark.slow
def test_other_images_run_through(kernels, tiny_photos, tmp_path):
    (source,) = runner.select(["05"])
    outcome = runner.execute(source, tmp_path / "05.ipynb", {"IMAGES": str(tiny_photos)})
    assert outcome.error == ""
    shown = text_of(tmp_path / "05.ipynb")
    assert all(name in shown for name in ("dawn", "noon", "night"))
    assert "dandelion" not in shown


@pytest.mark.slow
def test_more_epochs_run_through(kernels, tiny_photos, tmp_path):
    parameters = ["-p", "EPOCHS", "2", "-p", "IMAGES", str(tiny_photos)]
    assert main(["run", "--out", str(tmp_path), *parameters, "04"]) == 0
    source = "\n".join(cell.source for cell in nbformat.read(tmp_path / f"{PAGE[4]}.ipynb", as_version=4).cells)
    assert "EPOCHS = 2" in source


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_a_clear_error(kernels, tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["run", "--out", str(tmp_path), "-p", "DEVICE", "cuda", "04"]) == 1
    assert re.search(r"04_\w+: cell \[\d+\] failed with \w+: .*\b(cuda|CUDA|GPU)\b", capsys.readouterr().err)
