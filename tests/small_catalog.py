"""The command line with a few small files in place of the large ones: ``python tests/small_catalog.py fetch --all``.

``TLKIT_TEST_URL`` is the address that stands for the internet. The files are the same in every process.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys

from tlkit.commands import catalog, main
from tlkit.files.downloads import Remote

SIZES = {"photos": 700_000, "vgg16": 1_500_000, "resnet18": 300_000}
CONTENTS = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}


def remotes(url: str) -> dict[str, Remote]:
    """Return the files by the names of the catalog; the last is no lesson's, and its hash and size are not known."""
    found = {}
    for name, content in CONTENTS.items():
        digest = hashlib.sha256(content).hexdigest()
        file, folder = ("photos.tgz", "images") if name == "photos" else (f"{name}-{digest[:8]}.pth", "weights")
        lesson = name != "resnet18"
        exact = {"sha256": digest, "size": len(content)} if lesson else {"sha256": digest[:8], "about": 310_000}
        found[name] = Remote(file, (f"{url}/{file}",), folder=folder, **exact)
    return found


def use(url: str, setting=setattr) -> dict[str, Remote]:
    """Put the small files into the catalog."""
    files = remotes(url)
    setting(catalog, "LESSONS", {name: files[name] for name in ("photos", "vgg16")})
    setting(catalog, "files", lambda: files)
    return files


if __name__ == "__main__":
    use(os.environ["TLKIT_TEST_URL"])
    sys.argv[0] = "tlkit"
    sys.exit(main())
