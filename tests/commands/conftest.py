import shutil
from pathlib import Path

import numpy as np
import pytest
import small_catalog
from command_line import CLASSES, NETWORK, SHARD
from PIL import Image
from servers import FileServer

from tlkit.commands import main
from tlkit.features import spec as spec_module
from tlkit.files import resuming


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(spec_module, "MOST_ROWS", SHARD)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, count in CLASSES.items():
        (folder / name).mkdir()
        for number in range(count):
            pixels = random.integers(256, size=(6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((80, 60)).save(folder / name / f"{number}.jpg")
    return folder


@pytest.fixture(scope="session")
def undivided(pictures, tmp_path_factory):
    """A store that one run of the command made; tests leave it alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec_module, "MOST_ROWS", SHARD)
        store = tmp_path_factory.mktemp("stores") / "undivided"
        assert main(["featurize", str(pictures), "--out", str(store), *NETWORK]) == 0
    return store


@pytest.fixture
def store(undivided, tmp_path):
    return Path(shutil.copytree(undivided, tmp_path / "store"))


@pytest.fixture
def no_settings(tmp_path, monkeypatch):
    """No setting of the machine counts, and nobody waits."""
    monkeypatch.setenv("TLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TLKIT_MIRROR", raising=False)
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    monkeypatch.setattr(resuming, "BACK_OFF", 0.001)


@pytest.fixture
def internet(no_settings, monkeypatch):
    """What stands for the internet: it has every file of the catalog, and these are small."""
    with FileServer() as server:
        files = small_catalog.use(server.url(""), monkeypatch.setattr)
        server.files = {f"/{file.name}": small_catalog.CONTENTS[name] for name, file in files.items()}
        monkeypatch.setenv("TLKIT_TEST_URL", server.url(""))
        yield server
