"""tl.scale.Ray before any cluster starts: what it refuses, and that nothing of Ray is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import samples
import torch

import tlkit as tl


@pytest.mark.slow
def test_nothing_of_ray_is_imported_before_it_is_started():
    code = "import sys, tlkit; tlkit.scale.plan; tlkit.scale.Ray; print({'ray', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_ray_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tlkit\[ray\]'"):
        tl.scale.Ray()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"cpus_per_worker": 0}, "cpus_per_worker must be at least 1"),
        ({"gpus_per_worker": -1}, "gpus_per_worker must be at least 0"),
        ({"engine": "onnxruntim"}, "Did you mean 'onnxruntime'"),
        ({"address": "ray://head:10001"}, "address='auto'"),
    ],
)
def test_what_cannot_be_is_refused_at_once(installed, options, text):
    with pytest.raises(ValueError, match=text):
        tl.scale.Ray(**options)


def test_data_that_workers_cannot_read_are_refused_before_a_start(installed, photos, tmp_path):
    helper = samples.make_helper()
    pictures = samples.read_photos(photos, helper)
    two = tl.scale.Ray(workers=2)
    with pytest.raises(ValueError, match="need a folder that all machines reach"):
        helper.featurize(pictures, engine=two)
    with pytest.raises(ValueError, match="pictures in files"):
        helper.featurize((torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)), to=tmp_path, engine=two)
    with pytest.raises(ValueError, match="in this process only"):
        helper.featurize(pictures.augmented(lambda x: x), to=tmp_path, views=2, engine=two)
