"""What a build costs in memory: VGG16 with everything but its head frozen, beside a plain copy.

python benchmarks/build_memory.py
"""

from __future__ import annotations

import copy
import resource
import sys

import tlkit as tl

UNIT = 1e3 if sys.platform == "darwin" else 1.0  # of ru_maxrss, in kB


def peak() -> float:
    """Return this process's largest memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT / 1e3


def main() -> None:
    """Measure and print three lines."""
    vgg16 = tl.zoo.load("vgg16", weights=None)
    before = peak()
    weights = sum(p.numel() * p.element_size() for p in vgg16.parameters()) / 1e6
    edits = tl.TransferLearning(vgg16).set_feature_extractor("fc2").remove_vertex_keep_connections("predictions")
    built = edits.add_layer("predictions", tl.Output(5), "fc2").build()
    after_build = peak()
    copied = copy.deepcopy(vgg16)
    after_copy = peak()
    print(f"weights of VGG16                     {weights:7.0f} MB")
    print(f"build() adds at its peak             {after_build - before:7.0f} MB  ({len(built.frozen)} vertices frozen)")
    print(f"copy.deepcopy adds at its peak       {after_copy - after_build:7.0f} MB  ({len(copied.vertices)} vertices)")


if __name__ == "__main__":
    main()
