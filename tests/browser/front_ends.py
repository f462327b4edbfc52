"""One Jupyter server on 127.0.0.1 that shows the same notebooks in JupyterLab, in Notebook 7 and in Voila."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

__all__ = ["BROWSER_OPTIONS", "JupyterServer", "find_chromium", "running_server"]

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 90  # seconds
# What would take two seconds in every process: a grammar for international addresses, which nobody asks for.
SITE = 'import sys\nsys.modules.setdefault("rfc3987_syntax", None)\n'
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # what is out of sight is on the page all the same
}
OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--ServerApp.terminals_enabled=False",
    "--LabApp.expose_app_in_browser=True",  # pages then let a program run commands, and know when they are done
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--JupyterNotebookApp.expose_app_in_browser=True",
    "--VoilaConfiguration.show_tracebacks=True",
)
BROWSER_OPTIONS = [
    *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),  # chromium's sandbox refuses root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    # Names of other machines lead nowhere: whatever needs the internet fails at once.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass(frozen=True)
class JupyterServer:
    """A server that runs.

    Parameters
    ----------
    address : str
        Such as ``http://127.0.0.1:8888``.
    token : str
        What it asks for.
    folder : Path
        Where its notebooks lie.
    """

    address: str
    token: str
    folder: Path

    def url(self, path: str, **query: str) -> str:
        """Return the address of a page, with the token."""
        return f"{self.address}/{quote(path)}?{urlencode({**query, 'token': self.token})}"


@contextmanager
def running_server(folder: Path, state: Path) -> Iterator[JupyterServer]:
    """Start a server for a folder of notebooks, and end it and its kernels afterwards.

    Parameters
    ----------
    folder : Path
        Of notebooks; they may be changed.
    state : Path
        An empty folder for its settings, caches and log, so that nothing of the user's is read or written.
    """
    server = JupyterServer(f"http://127.0.0.1:{_free_port()}", secrets.token_hex(16), folder)
    command = [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={folder}"]
    command += [f"--ServerApp.port={server.address.rpartition(':')[2]}", f"--IdentityProvider.token={server.token}"]
    log = state / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=_environment(state), stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(server, process, log)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)  # it shuts its kernels down
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(state: Path) -> dict[str, str]:
    places = {
        name: state / name.lower()
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTER_RUNTIME_DIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
            "IPYTHONDIR",
            "TLKIT_HOME",
        )
    }
    site = state / "site"
    for place in (*places.values(), site):
        place.mkdir()
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    for name, values in SETTINGS.items():
        file = places["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    python_path = os.pathsep.join(map(str, (site, ROOT)))  # this checkout, whatever is installed
    return {
        **os.environ,
        **{name: str(place) for name, place in places.items()},
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": python_path,
        "TLKIT_OFFLINE": "1",
        "OMP_WAIT_POLICY": "passive",
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait_for(server: JupyterServer, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            with urllib.request.urlopen(server.url("api/status"), timeout=5):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text(encoding="utf-8", errors="replace")[-3000:]
                msg = f"JupyterLab did not start:\n{said}"
                raise RuntimeError(msg) from error
            time.sleep(0.1)
