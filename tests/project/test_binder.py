"""What Binder would build from binder/, and that the notebooks fit into it. It needs no Docker, and builds nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tlkit.course.lessons import costs, normalizer, pages, runner

ROOT = Path(__file__).parents[2]
GRANTED = 2_000_000_000  # bytes; past it Binder restarts the notebook's Python
SERVER = 300_000_000  # bytes, JupyterLab's own, generously


def text(name: str) -> str:
    return (ROOT / "binder" / name).read_text(encoding="utf-8")


def commands(name: str) -> list[str]:
    return [line for line in text(name).splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def plan() -> SimpleNamespace:
    """What the build pack plans that repo2docker chooses for this repository, as Binder does."""
    app_module = pytest.importorskip("repo2docker.app", reason="needs jupyter-repo2docker (pip install '.[test]')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        app = app_module.Repo2Docker(repo=".")
        pack = next(pack for pack in (kind(app.base_image) for kind in app.buildpacks) if pack.detect())
        pack.platform = "linux/amd64"
        return SimpleNamespace(
            pack=type(pack).__name__,
            folder=pack.binder_dir,
            python=pack.python_version,
            dockerfile=pack.render({"NB_UID": "1000", "NB_USER": "jovyan"}),
            before_copying=list(pack.get_preassemble_script_files()),
            after_copying=list(pack.get_post_build_scripts()),
        )


def test_binder_takes_conda_packages_and_python_from_this_folder(plan):
    assert plan.pack == "CondaBuildPack"
    assert plan.folder == "binder"
    assert plan.python == "3.12"
    assert not (ROOT / ".binder").exists()  # Binder refuses both
    assert not (ROOT / "binder/requirements.txt").exists()  # it would be ignored


def test_a_commit_does_not_install_the_packages_again(plan):
    assert plan.before_copying == ["binder/environment.yml"]
    steps = plan.dockerfile
    installing = steps.index('env update -p ${NB_PYTHON_PREFIX} --file "binder/environment.yml"')
    assert installing < steps.index("COPY --chown=1000:1000 src/ ${REPO_DIR}/") < steps.index("RUN ./binder/postBuild")


def test_the_image_runs_post_build_once_and_start_at_each_start(plan):
    assert plan.after_copying == ["binder/postBuild"]
    assert plan.dockerfile.count("RUN ./binder/postBuild") == 1
    assert 'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in plan.dockerfile


def test_post_build_stops_at_the_first_fault_and_installs_tlkit_alone():
    lines = commands("postBuild")
    assert text("postBuild").startswith("#!/bin/bash\n")
    assert lines[0] == "set -euo pipefail"
    assert [line for line in lines if "pip install" in line] == ["pip install --no-deps --no-cache-dir -e ."]
    local = re.findall(r"^ *- +(-e|\.|/)", text("environment.yml"), re.MULTILINE)
    assert not local  # a local line in environment.yml would install everything again at each commit


def test_post_build_bakes_the_weights_the_flowers_and_what_notebooks_leave_for_later_ones():
    lines = "\n".join(commands("postBuild"))
    assert "tl.zoo.load()" in lines
    assert "tl.images.load()" in lines
    baked = re.search(r'python -m tlkit\.course\.lessons run --out "\$pages" ([\d ]+)', lines)[1].split()
    leaving = set()
    for path in runner.select(folder=ROOT / "notebooks"):
        code = "\n".join(cell.source for cell in normalizer.read(path).cells if cell.cell_type == "code")
        if re.search(r"\bOUT\b.*\{BACKBONE\}", code):  # a name that other notebooks can find
            leaving.add(path.stem[:2])
    assert set(baked) == leaving
    assert baked == sorted(baked)  # 07 goes on with what 06 saved


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_scripts_can_be_run(name):
    script = ROOT / "binder" / name
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_start_sets_one_thread_and_hands_over_to_its_arguments():
    assert commands("start")[-1] == 'exec "$@"'
    program = 'echo "$OMP_NUM_THREADS $OMP_WAIT_POLICY $0"'
    said = subprocess.run([ROOT / "binder/start", "sh", "-c", program, "x y"], capture_output=True, text=True)
    assert said.stdout == "1 passive x y\n"
    assert set(re.findall(r"OMP_\w+=\w+", text("start"))) == set(re.findall(r"OMP_\w+=\w+", text("postBuild")))


# memory


def test_a_notebook_within_the_limit_fits_beside_the_server():
    assert costs.MEMORY_LIMIT + SERVER < GRANTED
    assert "2 GB" in text("README.md")


def test_every_notebook_says_that_it_fits():
    for path in runner.select(folder=ROOT / "notebooks"):
        cost = costs.card_cost(normalizer.read(path).cells[0].source)
        assert cost is not None, path.name
        assert cost.peak_bytes <= costs.MEMORY_LIMIT, path.name


def test_the_report_of_a_run_warns_of_a_notebook_that_does_not_fit(tmp_path):
    outcomes = [
        runner.Outcome("05_small", "Small", costs.Cost(10, costs.MEMORY_LIMIT)),
        runner.Outcome("06_large", "Large", costs.Cost(10, costs.MEMORY_LIMIT + 100_000_000)),
    ]
    found = pages.report(outcomes, {})
    assert [row["warning"] for row in found["notebooks"]] == ["", "1.6 GB is over the limit of 1.5 GB"]
    pages.write_report(found, tmp_path / "report.json")
    pages.write_index(found, tmp_path / "index.html")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == found
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count("over the limit of 1.5 GB") == 1
    others = {"06_large": {"BACKBONE": "vgg16"}}
    assert not any(row["warning"] for row in pages.report(outcomes, others)["notebooks"])
