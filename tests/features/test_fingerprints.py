"""What a module computes, in words: all that changes it changes the text, and nothing else does."""

from __future__ import annotations

import ast
import collections
import ctypes
import dataclasses
import datetime
import enum
import fractions
import functools
import hashlib
import importlib
import linecache
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import types

import numpy as np
import pytest
import torch
from cells import run_as_a_cell
from nets import seeded
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tlkit.features.fingerprints import described, digest_of_tensor
from tlkit.features.sources import names_read, written
from tlkit.layers.modules import as_layer


class Held(nn.Module):
    """A module that computes with the value that it holds."""

    def __init__(self, value, name="value"):
        super().__init__()
        self.__dict__[name] = value

    def forward(self, x):
        return x * self.value


@dataclasses.dataclass
class Setting:
    factor: float = 1.0

    def times(self, x):
        return x * self.factor


class Factor:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


class Slots:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor


class Choice(enum.Enum):
    ONE = 1
    TWO = 2


class Table(dict):
    pass


Point = collections.namedtuple("Point", "x")


def times(factor):
    return lambda x: x * factor


def plus(x, shift):
    return x + shift


def later(x, shift=1):
    return x + shift


PAIRS = {
    "a truth value and a number": (True, 1),
    "a whole number and another": (1, 1.0),
    "signs of zero": (0.0, -0.0),
    "not a number": (float("nan"), float("inf")),
    "complex numbers": (1j, 2j),
    "texts": ("a", "b"),
    "bytes": (b"a", b"b"),
    "nothing": (None, 0),
    "ranges": (range(2), range(3)),
    "slices": (slice(1), slice(2)),
    "tuple and list": ((1,), [1]),
    "sets": ({1, 2}, {1, 3}),
    "sets and frozen sets of functions": ({torch.relu}, {torch.tanh}),
    "keys": ({1: 2}, {"1": 2}),
    "a dict's order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "long lists": ([1.0] * 1000, [1.0] * 999 + [2.0]),
    "named tuples": (Point(1), Point(2)),
    "dtypes": (torch.float32, torch.float16),
    "sizes": (torch.Size([1]), torch.Size([2])),
    "enums": (Choice.ONE, Choice.TWO),
    "numbers of a tensor": (torch.ones(2), torch.zeros(2)),
    "shape of a tensor": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "dtype of a tensor": (torch.zeros(2), torch.zeros(4, dtype=torch.float16)),
    "bfloat16": (torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16)),
    "conjugates": (torch.tensor([1j]), torch.tensor([1j]).conj()),
    "a dict of tensors": ({"a": torch.ones(2)}, {"a": torch.zeros(2)}),
    "arrays": (np.arange(3), np.arange(1, 4)),
    "dtype of an array": (np.zeros(2, "f4"), np.zeros(2, "f8")),
    "shape of an array": (np.zeros((2, 3)), np.zeros((3, 2))),
    "arrays of objects": (np.array([1, None]), np.array([2, None])),
    "arrays of texts": (np.array(["a"]), np.array(["b"])),
    "NumPy's numbers": (np.float32(1), np.float32(2)),
    "NumPy's and Python's numbers": (np.float64(1), 1.0),
    "functions": (torch.relu, torch.tanh),
    "functions that torch makes from others": (F.max_pool2d, F.adaptive_max_pool2d),
    "functions of NumPy": (np.sin, np.cos),
    "lambdas": (lambda x: x + 1, lambda x: x + 2),
    "closures": (times(1.0), times(2.0)),
    "defaults": (later, types.FunctionType(later.__code__, later.__globals__, "later", (2,))),
    "partials": (functools.partial(plus, shift=1), functools.partial(plus, shift=2)),
    "methods": (Setting(1.0).times, Setting(2.0).times),
    "what torch.no_grad wraps": (torch.no_grad()(times(1)), torch.no_grad()(times(2))),
    "what is cached": (functools.lru_cache(times(1)), functools.lru_cache(times(2))),
    "classes": (nn.ReLU, nn.Tanh),
    "classes of one's own": (Factor, Setting),
    "data classes": (Setting(1.0), Setting(2.0)),
    "objects": (Factor(1), Factor(2)),
    "objects with slots": (Slots(1), Slots(2)),
    "namespaces": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
    "dicts of one's own": (Table(a=1), Table(a=2)),
    "default dicts": (collections.defaultdict(int, {1: 2}), collections.defaultdict(list, {1: 2})),
    "queues": (collections.deque([1]), collections.deque([2])),
    "patterns": (re.compile("a"), re.compile("b")),
    "dates": (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)),
    "paths": (pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b")),
    "fractions": (fractions.Fraction(1, 2), fractions.Fraction(1, 3)),
    "modules in a list": ([nn.ReLU()], [nn.Tanh()]),
    "weights of modules in a list": ([nn.Linear(2, 2)], [nn.Linear(2, 2)]),
}


@pytest.mark.parametrize("what", PAIRS)
def test_another_value_is_another_text(what):
    one, other = PAIRS[what]
    for name in ("value", "_value"):
        assert described(Held(one, name)) == described(Held(one, name))
        assert described(Held(one, name)) != described(Held(other, name))


SAME = {
    "devices": (torch.device("cpu"), torch.device("meta")),
    "byte orders": (np.arange(3, dtype="<i4"), np.arange(3, dtype=">i4")),
    "sets made in another order": ({"a", "b", (1, 2)}, {(1, 2), "b", "a"}),
    "namespaces made in another order": (types.SimpleNamespace(a=1, b=2), types.SimpleNamespace(b=2, a=1)),
    "strides": (torch.arange(6).view(2, 3).T, torch.arange(6).view(2, 3).T.contiguous()),
    "equal lambdas": (lambda x: x + 1, lambda x: x + 1),
    "what requires a gradient": (torch.ones(2), torch.ones(2, requires_grad=True)),
}


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_matter_is_left_out(what):
    one, other = SAME[what]
    assert described(Held(one)) == described(Held(other))


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (threading.Lock(), "a lock (_thread.lock)"),
        (threading.Event(), "a thread or a lock (threading.Event)"),
        ((i for i in [1]), "a generator (builtins.generator)"),
        (iter([1]), "an iterator (builtins.list_iterator)"),
        (ctypes.c_int(3), "a ctypes object (ctypes.c_int)"),
        (torch.zeros(2).to_sparse(), "a sparse or quantized tensor, or one without numbers (torch.Tensor)"),
        (eval("lambda x: 1"), "a function whose source is not at hand (it was made by exec"),
        (types.ModuleType("mine"), "a module of your own, used as a whole"),
        ({"a": [threading.Lock()]}, "'own.value['a'][0]' is a lock"),
    ],
)
def test_what_nobody_can_tell_is_refused(value, what):
    with pytest.raises(ValueError, match=re.escape(what)) as error:
        described(Held(value), "own")
    assert "What 'own' computes cannot be written down: 'own.value" in str(error.value)
    assert str(error.value).endswith(
        "Keep a plain value or a buffer (self.register_buffer) in its place, or featurize without to=."
    )


def test_an_open_file_and_a_picture_are_refused(tmp_path):
    with (tmp_path / "a").open("w") as file, pytest.raises(ValueError, match=r"'own\.value' is an open file"):
        described(Held(file), "own")
    with pytest.raises(ValueError, match="an object that does not say what it holds"):
        described(Held(Image.new("RGB", (2, 2))))


def test_the_order_of_attributes_does_not_matter():
    one, other = nn.Module(), nn.Module()
    one.a, one.b = 1, 2
    other.b, other.a = 2, 1
    assert described(one) == described(other)


def test_an_object_that_holds_itself_is_described():
    one = Factor(1)
    one.again = [one]
    assert "1 levels" not in described(Held(one))
    assert "2 levels around" in described(Held(one))


def test_a_weight_that_an_attribute_holds_is_named_and_not_read_again():
    module = Held(None)
    module.layer = nn.Linear(2, 2)
    module.value = [module.layer.weight, [module.layer, module]]
    assert "value=[the weight 'layer.weight', [the part 'layer', the part '']]" in described(module)


# Modules


def test_hooks_are_described():
    texts = set()
    for hook in (None, lambda module, x: x, lambda module, x: (2 * x[0],)):
        module = nn.ReLU()
        if hook:
            module.register_forward_pre_hook(hook)
        texts.add(described(module))
    module = nn.ReLU()
    module.register_forward_hook(lambda module, x, y: 2 * y)
    assert len({*texts, described(module)}) == 4


def test_a_part_that_runs_twice_is_written_twice():
    act = nn.GELU()
    assert described(nn.Sequential(act, act)) == described(nn.Sequential(nn.GELU(), nn.GELU()))
    assert described(nn.Sequential(act, act)) != described(nn.Sequential(act))


def test_the_order_of_layers_matters():
    parts = {"a": nn.ReLU(), "b": nn.Tanh()}
    one, other = (
        nn.Sequential(collections.OrderedDict((name, parts[name]) for name in names)) for names in ("ab", "ba")
    )
    assert described(one) != described(other)


def test_the_shape_of_a_weight_is_written_and_its_numbers_are_not():
    with seeded(1):
        assert described(nn.Linear(2, 3)) == described(nn.Linear(2, 3))
    one, other = Held(1), Held(1)
    one.weight, other.weight = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(3, 2))
    assert described(one) != described(other)


def test_dropout_is_an_identity_unless_its_class_is_ones_own():
    class Always(nn.Dropout):
        def forward(self, x):
            return F.dropout(x, self.p, True)

    assert described(nn.Sequential(nn.Dropout(0.3))) == described(nn.Sequential(nn.Identity()))
    assert described(Always(0.3)) != described(Always(0.4))
    layer, dropped = as_layer(nn.Linear(2, 2)), as_layer(nn.Linear(2, 2))
    dropped.dropout = nn.Dropout(0.3)
    assert described(layer) == described(dropped)
    dropped.dropout = Always(0.3)
    assert described(layer) != described(dropped)


def test_every_base_of_a_class_is_named():
    def subclass(base):
        return type("Own", (Factor, base), {"__module__": __name__})

    one, other = (subclass(base).__new__(subclass(base)) for base in (nn.SELU, nn.CELU))
    for module in (one, other):
        nn.Module.__init__(module)
    assert described(one) != described(other)


def test_a_forward_of_one_object_is_described():
    module = nn.Identity()
    module.forward = lambda x: x * 2
    assert described(module) != described(nn.Identity())


def shifted(x):
    return x + 1


torch.fx.wrap("shifted")


def test_the_calls_of_a_traced_module_are_described(monkeypatch):
    class Traced(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.size = size

        def forward(self, x):
            return shifted(F.avg_pool2d(x, self.size)[:, 1:])

    one, other = (torch.fx.symbolic_trace(Traced(size)) for size in (2, 3))
    assert described(one) != described(other)
    assert described(one) == described(torch.fx.symbolic_trace(Traced(2)))
    for node in one.graph.nodes:
        node.target = plus if node.target is shifted else node.target
    assert described(one) != described(torch.fx.symbolic_trace(Traced(2)))


# Own code: each line is a cell's text, and an edit of it that changes what it computes

CELL = """
import numpy as np, torch, functools
from torch import nn
TABLE = np.array([1.0, 2.0])
SETTINGS = {"shift": 1.0}
def decorated(function):
    @functools.wraps(function)
    def run(*args):
        return function(*args) * 2
    return run
@decorated
def shift(x, by=SETTINGS["shift"]):
    return x + by
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
class Helper:
    scale = 3.0
    def __call__(self, x): return x * self.scale
class Convolution(nn.Conv2d):
    def _conv_forward(self, x, weight, bias): return super()._conv_forward(x, weight, bias) - 1
class Cell(nn.Module):
    limit = 6.0
    def __init__(self):
        super().__init__()
        self.conv = Convolution(3, 2, 3)
        self.kind = "a"
        self.__secret = 1
    @property
    def factor(self): return 5.0
    @staticmethod
    def halved(x): return x / 2
    def run_a(self, x): return x - 7
    def __private(self, x): return x * 8
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        "What it does."
        from math import sqrt
        x = shift(self.conv(x)) * TABLE[0].item() * even(4)
        add = lambda y, *, by=9: y + by
        x = self.__private(self.halved(add(x))).clamp(max=self.limit) * self.factor
        return getattr(self, f"run_{self.kind}")(Helper()(x)) * sqrt(4)
"""
CHANGES = {
    "a global array": ("[1.0, 2.0]", "[1.5, 2.0]"),
    "a default from a global": ('"shift": 1.0', '"shift": 2.0'),
    "a decorator": ("* 2\n    return run", "* 3\n    return run"),
    "a decorated function": ("x + by\n", "x - by\n"),
    "functions that call each other": ("n != 0", "n > 0"),
    "a class's attribute": ("scale = 3.0", "scale = 4.0"),
    "a class's method": ("x * self.scale", "x / self.scale"),
    "a method that torch calls": ("bias) - 1", "bias) + 1"),
    "a module's class attribute": ("limit = 6.0", "limit = 7.0"),
    "a property": ("return 5.0", "return 6.0"),
    "a static method": ("x / 2", "x / 3"),
    "a method found by a computed name": ("x - 7", "x - 8"),
    "a private method": ("x * 8", "x * 9"),
    "a lambda": ("y + by", "y - by"),
    "a lambda's default": ("by=9", "by=8"),
    "a name imported inside": ("import sqrt", "import exp as sqrt"),
    "a text": ('kind = "a"', 'kind = "b"'),
}
HARMLESS = {
    "a docstring": ('"What it does."', '"What it did."'),
    "annotations": ("x: torch.Tensor) -> torch.Tensor", "x)"),
    "a comment": ("from math", "# a root\n        from math"),
    "the name of a local variable": ("add", "added"),
    "brackets": ("return 5.0", "return (5.0)"),
    "what runs once": ("super().__init__()", "super().__init__(); print(end='')"),
    "a global that nothing reads": ("TABLE =", "OTHER = 3\nTABLE ="),
}


def described_cell(code):
    return described(run_as_a_cell(code, {"__name__": "__main__"})["Cell"]())


@pytest.mark.slow  # a module's source each
@pytest.mark.parametrize("what", CHANGES)
def test_an_edit_that_changes_what_a_cell_computes(what):
    old, new = CHANGES[what]
    assert CELL.count(old) == 1
    assert described_cell(CELL) != described_cell(CELL.replace(old, new))


@pytest.mark.parametrize("what", HARMLESS)
def test_an_edit_that_changes_nothing(what):
    old, new = HARMLESS[what]
    assert old in CELL
    assert described_cell(CELL) == described_cell(CELL.replace(old, new))


def test_cells_in_a_real_shell(tmp_path, monkeypatch):
    pytest.importorskip("IPython")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    texts = []
    for code in (CELL, CELL.replace("x - 7", "x - 8"), CELL):
        shell.run_cell("from __future__ import annotations").raise_error()
        shell.run_cell(f"%precision 3\n{code}\nawaited = await __import__('asyncio').sleep(0)").raise_error()
        texts.append(described(shell.user_ns["Cell"]()))
    assert texts[0] == texts[2] != texts[1]


def test_lambdas_on_one_line_are_told_apart():
    # fmt: off
    one, two, three, same = lambda x: x + 1, lambda x: x + 2, lambda x: [x + 1, lambda: 0], lambda x: x + 1
    # fmt: on
    texts = [described(Held(function)) for function in (one, two, three)]
    assert len(set(texts)) == 3
    assert described(Held(same)) == texts[0]


def test_a_file_that_was_edited_after_its_import_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "edited_afterwards.py"
    file.write_text("def function(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("edited_afterwards").function
    before = described(Held(function))
    file.write_text("def function(x):\n    return x + 2\n")
    linecache.checkcache()
    with pytest.raises(ValueError, match=r"another one than what runs \(the file was edited after its import\)"):
        described(Held(function))
    file.write_text("# moved nothing\n")
    file.write_text("def function(x):  # a comment\n    return x + 1\n")
    linecache.checkcache()
    assert described(Held(function)) == before


def test_modules_of_ones_own_are_followed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    texts = []
    for name, number in (("mine_1", 1), ("mine_2", 2), ("mine_3", 1)):
        (tmp_path / f"{name}.py").write_text(f"NUMBER = {number}\ndef shift(x):\n    return x + NUMBER\n")
        code = (
            f"import {name} as mine\nfrom torch import nn\nclass Cell(nn.Module):\n    def forward(self, x):\n        "
        )
        texts.append(described_cell(code + "return mine.shift(x)\n"))
    assert texts[0] == texts[2] != texts[1]
    with pytest.raises(ValueError, match="a module of your own, used as a whole"):
        described_cell(f"{code}        return getattr(mine, 'shift')(x)\n")


def test_code_that_nobody_can_follow_is_refused():
    code = "from torch import nn\nclass Cell(nn.Module):\n    def forward(self, x):\n        return eval('x + 1')\n"
    with pytest.raises(
        ValueError, match=r"'module: Cell\.forward' is a function that calls eval, which reads what nobody"
    ):
        described_cell(code)


def test_a_forward_that_was_put_into_a_class_of_torch_is_described(monkeypatch):
    before = described(nn.ReLU())
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x * 2)
    assert described(nn.ReLU()) != before


def test_what_a_module_remembers_for_itself_does_not_matter():
    class Remembering(nn.Module):
        @functools.cached_property
        def table(self):
            return torch.ones(3)

        def forward(self, x):
            self.last = x * self.table  # for someone to look at
            return x * self.table

    module = Remembering()
    before = described(module)
    module(torch.ones(3))
    assert described(module) == before


def test_what_forward_sets_and_reads_matters():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    module = Counting()
    before = described(module)
    module(torch.ones(3))
    assert described(module) != before


SCRIPT = """
    import sys, types
    sys.path[:0] = sys.argv[1:]
    import numpy as np, torch
    from torch import nn
    from tlkit.features.fingerprints import described
    NAMES = {"a", "b", "c", "d"}
    def one(x): return x + len(NAMES)
    def two(x): return one(x) * 2
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.names, self.functions = {"x", "y", "z", 1, (2, "w")}, {one, two, torch.relu, len}
            self.space = types.SimpleNamespace(table=np.arange(3), kinds={nn.ReLU, nn.Tanh})
        def forward(self, x): return two(x) if self.names | self.functions else {i for i in x}
    print(described(Own()))
"""


@pytest.mark.slow
def test_neither_the_process_nor_its_hash_seed_matters(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    root = str(pathlib.Path(__file__).parents[2])
    runs = [
        subprocess.Popen(
            [sys.executable, script, root],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    texts = [run.communicate(timeout=300)[0] for run in runs]
    assert texts[0] == texts[1]
    assert "Own < torch.nn" in texts[0]


# The text of a definition

SNIPPET = '''
def a(x, /, y: int = 3, *rest, k=4, **kw) -> "Tensor":
    """doc"""
    one: float = x[..., 1:2, None] * 1e-7 + 1j - 0x10
    two = f"a{one!r:>{y}}b{y:}" f"c" "d{{" f"{x=}" + f"{'q'}\\n"
    with contextlib.suppress(ValueError) as s, open("a", "rb") as t:
        pass
    for i, (j, *k2) in enumerate([z ** -i for z in x if z if not z is None]):
        if (w := i) >= 3 or not (j and w): continue
        else: break
    try:
        assert x, "no"
    except (ValueError, TypeError) as e:
        raise RuntimeError(f"x {e}") from e
    finally:
        del two
    def inner(q: int = 1, *, r=2):
        "doc"
        nonlocal one
        one += q
        return lambda *args, u=1, **kk: (yield)
    class C(dict, metaclass=type):
        f: int = 3
        g: "str"
        def h(self): return super().h
    return {**kw, "é": {1, 2}, b"x": (1,), "l": lambda: 0}, x @ y, x if y else None, x[a, b:c], (*x, 1), y < 1 < 2
async def b(x):
    async with x as y: await y
    async for z in x: yield z
    return
def c(x):
    match x:
        case {"a": [1, *r], **o} if r: return o
        case C(a=1) | (2 as t): return t
        case _: return -1.5
    global G
    G = x; import os.path as p; from . import q as qq
'''


def definition(code):
    [node] = ast.parse(textwrap.dedent(code)).body
    return node


def test_the_text_of_a_definition_is_the_same_in_each_version_of_python():
    # these were the same in Python 3.10.13, 3.11.7, 3.12.1 and 3.13.0
    digests = [hashlib.sha256(written(node).encode()).hexdigest()[:16] for node in ast.parse(SNIPPET).body]
    assert digests == ["6342dbe450560d8b", "33a929c77987e435", "1a7d7d34e7e7da5f"]


def test_only_a_name_that_is_local_everywhere_is_left_out():
    def text(code):
        return written(definition(code))

    assert text("def f(x):\n y = x\n return y") == text("def g(x):\n z = x\n return z")
    assert text("def f(x):\n y = x\n return y") != text("def f(x):\n y = x\n return x")
    assert text("def f(x):\n return x") != text("def f(y):\n return y")  # may be called by its name
    assert text("def f(x):\n a, b = x\n return a - b") != text("def f(x):\n b, a = x\n return a - b")
    assert text("def f():\n y = 1\n return lambda: y") == text("def f():\n z = 1\n return lambda: z")
    assert text("def f():\n y = 1\n return locals()") != text("def f():\n z = 1\n return locals()")
    assert text("def f():\n return y") != text("def f():\n return z")


def test_names_are_found_where_they_are_read():
    names = names_read(
        definition("""
            def f(x: Annotation = DEFAULT):
                def inner(y): return y + OUTER + free
                import mine.part as part
                return np.linalg.norm(x) + [z for z in TABLE][0] + getattr(x, "shape") + part.NUMBER
        """),
        ("free",),
    )
    assert names.free == {
        "OUTER": {()},
        "TABLE": {()},
        "free": {()},
        "getattr": {()},
        "np": {("linalg", "norm")},
        "part": {("NUMBER",)},
    }
    assert names.imported == {"part": ("mine.part", "", 0)}
    assert names.attributes == {"linalg", "norm", "NUMBER", "shape"}
    assert not names.any_attribute


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.complex64]
)
def test_the_digest_is_that_of_the_bytes(dtype):
    value: Tensor = torch.arange(6).to(dtype)
    content = value.view(torch.uint8).numpy().tobytes()
    assert digest_of_tensor(value) == hashlib.sha256(content).hexdigest()
