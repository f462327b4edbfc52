"""``python -m tlkit verify``: whether every byte of a feature store is what was written."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from tlkit.commands.output import complain, progress_bar, say
from tlkit.features.shards import Shard, StoreError, verify_shard
from tlkit.features.spec import Layout
from tlkit.files.storage import RemotePath, place
from tlkit.memory import counted

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Say each problem in a line, and return 1 when there is one.

    A damaged store cannot be opened, so this checks shard by shard what `FeatureStore.verify` checks.
    """
    folder = place(options.store)
    layout = Layout.read(folder)
    wrong = 0
    with progress_bar(len(layout.shards), text=f"Verify {folder.name}", unit="shards") as bar:
        for shard in layout.shards:
            problems = _problems(folder, layout, shard)
            bar.update()
            wrong += bool(problems)
            for problem in problems:
                say(problem)
    total = counted(len(layout.shards), "shard")
    if wrong:
        complain(f"{wrong} of {total} not right. Featurize again with the same settings: only these are computed.")
        return 1
    say(f"The store in '{folder}' is right: {counted(layout.rows, 'row')} in {total}, every byte as it was written.")
    return 0


def _problems(folder: Path | RemotePath, layout: Layout, shard: Shard) -> list[str]:
    try:
        return verify_shard(folder, shard, layout.shapes)
    except (OSError, StoreError) as error:
        return [f"Shard {shard.number} cannot be read: {error}"]
