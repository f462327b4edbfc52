"""docs/dl4j-to-tlkit.md: complete on DL4J's side, real on tlkit's."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from nets import blobs, classifier

import tlkit as tl
from tlkit.layers.options import Options
from tlkit.training.loop import Training

PAGE = (Path(__file__).parents[2] / "docs/dl4j-to-tlkit.md").read_text(encoding="utf-8")

# public methods of the classes, from DL4J's sources
BUILDER = """fineTuneConfiguration setFeatureExtractor nOutReplace nInReplace removeOutputLayer removeLayersFromOutput
addLayer setInputPreProcessor validateOutputLayerConfig build"""
GRAPH_BUILDER = """fineTuneConfiguration setFeatureExtractor nOutReplace nInReplace removeVertexKeepConnections
removeVertexAndConnections addLayer addVertex setOutputs setInputs addInputs setInputTypes setWorkspaceMode
validateOutputLayerConfig build"""
CONFIGURATION = """activation weightInit dist biasInit l1 l2 l1Bias l2Bias weightDecay weightDecayBias dropout dropOut
weightNoise updater biasUpdater miniBatch maxNumLineSearchIterations seed optimizationAlgo stepFunction minimize
gradientNormalization gradientNormalizationThreshold convolutionMode cudnnAlgoMode constraints pretrain backprop
backpropType tbpttFwdLength tbpttBackLength trainingWorkspaceMode inferenceWorkspaceMode build builder toJson fromJson
toYaml fromYaml appliedNeuralNetConfiguration applyToNeuralNetConfiguration applyToMultiLayerConfiguration
applyToComputationGraphConfiguration appliedNeuralNetConfigurationBuilder"""
HELPER = """unfrozenGraph unfrozenMLN errorIfGraphIfMLN featurize fitFeaturized outputFromFeaturized"""
SECTIONS = {
    "TransferLearning.Builder": BUILDER,
    "TransferLearning.GraphBuilder": GRAPH_BUILDER,
    "FineTuneConfiguration": CONFIGURATION,
    "TransferLearningHelper": HELPER,
}
AROUND = """initPretrained decodePredictions writeModel restoreComputationGraph restoreMultiLayerNetwork FrozenLayer
FrozenLayerWithBackprop FrozenVertex LossLayer setListeners EvaluativeListener StatsListener EarlyStoppingTrainer
Evaluation.stats summary clone"""


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no heading {title}"
    return found.group(1)


def tables() -> list[tuple[list[str], list[list[str]]]]:
    """The header and the rows of each table."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        found.append((header, rows))
    return found


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def parsed(code: str) -> ast.AST | None:
    try:
        return ast.parse(code)
    except SyntaxError:
        return None


@pytest.fixture(scope="module")
def things() -> dict[str, object]:
    """What the names at the front of the page's expressions stand for."""
    net = classifier(4, 6, 3).freeze("0")
    history = tl.fit(net, blobs(), progress=False)
    return {
        "tl": tl,
        "torch": torch,
        "functools": functools,
        "net": net,
        "builder": tl.TransferLearning(net),
        "helper": tl.TransferLearningHelper(net),
        "tuning": tl.FineTuneConfiguration(),
        "history": history,
        "evaluation": tl.evaluate(net, blobs()),
        "training": Training(net, net.optimizers, 1),
    }


class Checker(ast.NodeVisitor):
    """Looks every name of an expression up, and binds the arguments of every call."""

    def __init__(self, things: dict[str, object]) -> None:
        self.things = things
        self.resolved = 0

    def look_up(self, node: ast.AST) -> object:
        """The thing that an expression names, or None for a stand-in such as `data`."""
        if isinstance(node, ast.Name):
            return self.things.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.look_up(node.value)
            if owner is None:
                return None
            assert hasattr(owner, node.attr), f"{ast.unparse(node)} does not exist"
            self.resolved += 1
            return getattr(owner, node.attr)
        if isinstance(node, ast.Call):
            function = self.look_up(node.func)
            if function is tl.TransferLearning:
                return self.things["builder"]
            if getattr(function, "__self__", None) is self.things["builder"] and function.__name__ != "build":
                return self.things["builder"]
            return self.things["net"].summary() if getattr(function, "__name__", "") == "summary" else None
        return None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.look_up(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = self.look_up(node.func)
        if function not in (None, functools.partial):  # the signature of `partial` is not known to Python
            known = {keyword.arg: keyword.value for keyword in node.keywords}
            try:
                inspect.signature(function).bind(*node.args, **known)
            except TypeError as error:
                pytest.fail(f"{ast.unparse(node)}: {error}")
            if isinstance(function, type) and issubclass(function, Options):  # their signature takes any option
                assert set(known) <= {field.name for field in fields(function)}, ast.unparse(node)
        self.generic_visit(node)


def is_option(code: ast.AST | None) -> bool:
    """Whether code reads like options of a configuration: `l2=1e-4`, `l1_bias=0, l2_bias=0`."""
    return isinstance(code, ast.Module) and len(code.body) == 1 and isinstance(code.body[0], ast.Assign)


@pytest.mark.parametrize("title", SECTIONS)
def test_every_method_of_dl4js_classes_has_a_line(title):
    first = "\n".join(line.split("|")[1] for line in section(title).splitlines() if line.startswith("|"))
    words = set(re.findall(r"\w+", " ".join(spans(first))))
    assert sorted(set(SECTIONS[title].split()) - words) == []


def test_what_stands_around_the_classes_has_a_line():
    first = " ".join(span for header, rows in tables() for row in rows for span in spans(row[0]))
    assert [name for name in AROUND.split() if not re.search(rf"\b{re.escape(name)}\b", first)] == []


def test_every_public_method_of_tlkits_classes_occurs():
    named = " ".join(spans(PAGE))
    for kind in (tl.TransferLearning, tl.TransferLearningHelper):
        public = {name for name in vars(kind) if not name.startswith("_")} - {"replay"}  # of saved files alone
        assert sorted(name for name in public if not re.search(rf"\b{name}\b", named)) == []
    options = {field.name for field in fields(tl.FineTuneConfiguration)}
    assert sorted(name for name in options if not re.search(rf"\b{name}=", named)) == []


def test_names_of_tlkit_exist_and_take_what_the_page_gives_them(things):
    count = 0
    for span in spans(PAGE):
        code = parsed(span)
        if code is not None and not is_option(code):
            checker = Checker(things)
            checker.visit(code)
            count += checker.resolved > 0
    assert count > 120  # the check is not vacuous


def test_the_column_of_tlkit_holds_nothing_but_tlkit(things):
    seen = 0
    for header, rows in tables():
        if header[1] != "tlkit":
            continue
        for row in rows:
            seen += 1
            found = spans(row[1])
            assert found or row[1] == "–", row
            for span in found:
                code = parsed(option_call(span) if re.match(r"\w+=", span) else span)
                assert code is not None, f"{span} is no Python"
                checker = Checker(things)
                checker.visit(code)
                roots = {node.id for node in ast.walk(code) if isinstance(node, ast.Name)} & set(things)
                assert checker.resolved or roots, f"{span} names nothing of tlkit"
    assert seen > 80


def option_call(span: str) -> str:
    return f"tl.FineTuneConfiguration({span})"


def test_options_of_a_configuration_can_be_given_as_written(things):
    options = [span for span in spans(PAGE) if re.match(r"[a-z_0-9]+=", span) and parsed(option_call(span))]
    mine = [span for span in options if span.split("=")[0] not in ("applyLR", "backprop")]
    assert len(mine) > 30
    for span in mine:
        assert isinstance(eval(option_call(span), dict(things)), tl.FineTuneConfiguration), span


def test_the_page_starts_with_code_that_names_what_exists(things):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    checker = Checker(things)
    checker.visit(ast.parse(code))
    assert checker.resolved >= 3


def test_links_and_anchors_lead_somewhere():
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^##+ (.*)", PAGE, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (Path(__file__).parents[2] / "docs" / target).exists(), target
