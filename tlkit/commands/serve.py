"""``python -m tlkit serve``: what was fetched, for the other machines in the room."""

from __future__ import annotations

import errno
from argparse import Namespace
from collections.abc import Mapping

from tlkit.commands import catalog
from tlkit.commands.output import complain, say, say_facts
from tlkit.errors import quoted
from tlkit.files import downloads
from tlkit.files.downloads import Remote
from tlkit.files.mirror import Delivery, Mirror, own_addresses
from tlkit.memory import counted, readable_size

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Give known files away until Ctrl-C."""
    files = catalog.files()
    log = _Log(files)
    try:
        mirror = Mirror(files.values(), host=options.host, port=options.port, report=log.note)
    except OSError as error:
        raise OSError(_sentence(error, options)) from error
    with mirror:
        try:
            _say_what_is_served(files, mirror.present())
            addresses = [options.host] if options.host else own_addresses()
            _say_who_can_read(options.host, addresses, mirror.server_port)
            _say_what_to_set(addresses, mirror.server_port)
            mirror.serve_forever()
        except KeyboardInterrupt:  # the way to end it
            say(f"\nStopped. {log.sum()}")
    return 0


def _sentence(error: OSError, options: Namespace) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {options.port} is taken. Is this command running already? If not, choose another: --port 0"
    where = f"{options.host or 'its addresses'}, port {options.port}"
    return f"This machine cannot listen on {where}: {error.strerror or error}"


class _Log:
    """Tells who got what, and keeps the sum."""

    def __init__(self, files: Mapping[str, Remote]) -> None:
        self._names = {remote.name: name for name, remote in files.items()}
        self._told: set[tuple[str, str]] = set()
        self._clients: set[str] = set()
        self._bytes = 0

    def note(self, delivery: Delivery) -> None:
        file, client = delivery.remote.name, delivery.client
        self._bytes += delivery.count
        if delivery.outcome == "done":
            self._clients.add(client)
            say(f"{client} has {file}")
        elif delivery.outcome == "broken":
            say(f"{client} broke off after {readable_size(delivery.count)} of {file}; it can go on there")
        elif (client, file) not in self._told:
            self._told.add((client, file))
            say(f"{client} asked for {file}, which is not here. Fetch it: python -m tlkit fetch {self._names[file]}")

    def sum(self) -> str:
        return f"{readable_size(self._bytes)} went to {counted(len(self._clients), 'machine')}."


def _say_what_is_served(files: Mapping[str, Remote], present: Mapping[str, str]) -> None:
    for name, remote in files.items():
        problem = None if remote.name in present else downloads.find_fault(remote)
        if problem or (problem == "" and name in catalog.LESSONS):
            complain(f"Not served: {remote.name}, {problem or 'not here'}. Fetch it: python -m tlkit fetch {name}")
    if not present:
        msg = f"There is nothing to serve in {downloads.home()}. Fetch it first: python -m tlkit fetch --all"
        raise FileNotFoundError(msg)
    say(f"Serving, for reading only, from {downloads.home()}:")
    for remote in files.values():
        if remote.name in present:
            size = readable_size(remote.path.stat().st_size)
            say(f"  {remote.name}, {size}, sha256 {present[remote.name][:12]}...")


def _say_who_can_read(host: str, addresses: list[str], port: int) -> None:
    if host.startswith("127.") or host == "localhost":
        say(f"It listens on {host}, port {port}: only programs on this machine can read the files.")
        return
    where = host or f"every address of this machine, such as {quoted(addresses or ['127.0.0.1'])}"
    say(f"It listens on {where}, port {port}: whoever is on the same network can read the files.")
    if not host:
        say("With --host ADDRESS it listens on one address only, with --host 127.0.0.1 for this machine only.")


def _say_what_to_set(addresses: list[str], port: int) -> None:
    say()
    if not addresses:
        complain("This machine is on no network. Join one, and start this again.")
    for address in addresses:
        url = f"http://{address}:{port}"
        say("The others set one line, where they work:" if address == addresses[0] else "or, if that does not answer:")
        say_facts(
            {
                "in a notebook": f"%env TLKIT_MIRROR={url}",
                "Linux, macOS": f"export TLKIT_MIRROR={url}",
                "Windows": f"set TLKIT_MIRROR={url}",
                "PowerShell": f'$env:TLKIT_MIRROR = "{url}"',
            }
        )
        say()
    say("Opened in a browser, the address lists the files. Ctrl-C ends this.")
