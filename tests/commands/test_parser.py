import pytest
from command_line import run

from tlkit.commands import parser
from tlkit.features import engines
from tlkit.features import spec as spec_module


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["featurise"], "there is no command 'featurise', only 'featurize', 'verify', 'info', 'fetch', 'serve' and"),
        (["featurize", "pictures"], "the following arguments are required: --out"),
        (["featurize", "pictures", "--out", "x", "--engine", "onyx"], "invalid choice: 'onyx'"),
        (["featurize", "pictures", "--out", "x", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["featurize", "pictures", "--out", "x", "--shards", "0/3"], "'0/3' is no part of a whole"),
        (["featurize", "pictures", "--out", "x", "--shards", "4/3"], "'4/3' is no part of a whole"),
        (["featurize", "pictures", "--out", "x", "--shards", "1-3"], "the second of eight is 2/8"),
        (["featurize", "pictures", "--out", "x", "--batch-size", "0"], "'0' is no number of pictures: 1 at least."),
        (["verify"], "the following arguments are required: STORE"),
        (["doctor", "--jsn"], "unrecognized arguments: --jsn"),
    ],
)
def test_wrong_usage_is_exit_code_2(words, sentence, capsys):
    code, said, complaint = run(capsys, *words)
    assert (code, said) == (2, "")
    assert complaint.startswith("usage: python -m tlkit")
    assert sentence in complaint


def test_its_choices_are_those_of_the_library():
    assert parser.ENGINES == engines.ENGINES
    assert parser.DTYPES == spec_module.DTYPES
