"""Pictures of flowers drawn from a seed: data for every notebook, without a download and alike on every machine.

A picture is a scenery, out-of-focus flowers of any kind, flowers of the kind asked for, grass in front of them, and a
camera that rolls, blurs, colors and grains the whole. Only the flowers in front tell the kind.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import uuid
from cmath import rect
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from tlkit.errors import near_misses, quoted
from tlkit.images.flowers import GREENS, KINDS, UP, Brush, blade, leaf, pick, plant, vary

__all__ = ["KINDS", "VERSION", "draw_flower", "draw_flowers"]

VERSION = "1"  # of the style: another one when the same seed gives other pictures
CANVAS = 448  # pixels: twice what the camera sees, for smooth edges


# Sceneries


def mottle(picture: Image.Image, rng: Generator, color: Any, contrast: float, cells: int) -> None:
    """Cover the picture with soft spots around a color."""
    spots = color + rng.normal(0, contrast, (cells, cells, 1)) + rng.normal(0, contrast / 5, (cells, cells, 3))
    spots = Image.fromarray(np.clip(spots, 0, 255).astype(np.uint8))
    picture.paste(spots.resize(picture.size, Image.Resampling.BICUBIC))


def grass(brush: Brush, rng: Generator, count: int, color: Any, length: float, top: float = 0.1) -> None:
    """Draw blades that grow from anywhere below `top`, the lower ones in front."""
    for y in np.sort(rng.uniform(top, 1.3, count)):
        shape = blade(length * rng.uniform(0.5, 1.4), rng.uniform(0.01, 0.045), 0.3, bend=rng.normal(0, 0.2))
        root, angle = complex(rng.uniform(-0.1, 1.1), y), UP + rng.normal(0, 0.3)
        brush.moved(root, angle).polygon(shape, vary(rng, color, 18))


def meadow(brush: Brush, rng: Generator) -> None:
    """Draw grass over grass."""
    green = vary(rng, pick(rng, *GREENS), 14)
    mottle(brush.picture, rng, green * 0.7, 18, cells=12)
    grass(brush, rng, rng.integers(60, 140), green, 0.35)


def hedge(brush: Brush, rng: Generator) -> None:
    """Draw leaves over leaves, from the dark ones behind to the light ones in front."""
    green, size = vary(rng, pick(rng, *GREENS), 14), rng.uniform(0.12, 0.3)
    mottle(brush.picture, rng, green * 0.4, 15, cells=12)
    for shade in np.linspace(0.45, 1.1, rng.integers(40, 80)):
        here = brush.moved(complex(*rng.uniform(-0.1, 1.1, 2)), scale=size)
        leaf(here, blade(1, rng.uniform(0.35, 0.7)), rng.uniform(0, 2 * np.pi), vary(rng, green * shade))


def sky(brush: Brush, rng: Generator) -> None:
    """Draw clouds, and a hill below them."""
    blue = vary(rng, pick(rng, (90, 150, 220), (150, 190, 225), (205, 210, 215)), 12)
    mottle(brush.picture, rng, blue, pick(rng, 3, 22), cells=7)
    x = np.linspace(-0.2, 1.2, 12)
    crest = rng.uniform(0.5, 1.2) + 0.06 * np.sin(x * rng.uniform(2, 7) + rng.uniform(0, 2 * np.pi))
    brush.polygon(np.append(x + 1j * crest, [1.2 + 1.3j, -0.2 + 1.3j]), vary(rng, (90, 120, 70), 18))


def soil(brush: Brush, rng: Generator) -> None:
    """Draw earth with clods and straw."""
    brown = vary(rng, (104, 84, 60), 14)
    mottle(brush.picture, rng, brown * 0.8, 16, cells=16)
    for size in rng.uniform(0.004, 0.03, rng.integers(50, 150)):
        clod = brush.moved(complex(*rng.uniform(0, 1, 2)), rng.uniform(0, np.pi), size, squash=0.7)
        color = vary(rng, brown, 16)
        clod.disc(0, 1, color * 0.6)
        clod.disc(rect(0.3, clod.lit), 0.7, color)
    grass(brush, rng, rng.integers(0, 25), vary(rng, (150, 130, 85), 20), 0.3)


def lights(brush: Brush, rng: Generator) -> None:
    """Draw specks of any color, far out of focus, on dark or pale ground."""
    ground = vary(rng, pick(rng, (35, 55, 35), (30, 30, 40), (150, 160, 120), (200, 198, 192)), 12)
    mottle(brush.picture, rng, ground, 14, cells=5)
    for radius in rng.uniform(0.02, 0.09, rng.integers(6, 40)):
        color = (*rng.uniform(60, 255, 3), rng.uniform(30, 140))
        brush.disc(complex(*rng.uniform(0, 1, 2)), radius, color)


# From the scene to the photo


def background(rng: Generator, light: float) -> Image.Image:
    """Draw a scenery with a few flowers of any kind in it, out of focus."""
    picture = Image.new("RGB", (CANVAS // 2, CANVAS // 2))
    brush = Brush(picture, light)
    pick(rng, meadow, meadow, hedge, hedge, sky, soil, lights)(brush, rng)
    for _ in range(pick(rng, 0, 0, 2, 4)):
        plant(brush, rng, pick(rng, *KINDS), complex(*rng.uniform(0, 1, 2)), rng.uniform(0.04, 0.12))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 5)))
    return picture.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)


def foreground(brush: Brush, rng: Generator, kind: str) -> None:
    """Draw one to five flowers of a kind, the nearer ones larger, and grass in front of them."""
    blades, color = pick(rng, 0, 4, 10, 20), vary(rng, pick(rng, *GREENS))
    count = pick(rng, 1, 1, 1, 2, 3, 5)
    reach = 0.17 if count == 1 else 0.33
    for nearness in np.linspace(0.75, 1, count):
        place = complex(*rng.uniform(0.5 - reach, 0.5 + reach, 2))
        plant(brush, rng, kind, place, nearness * np.exp(rng.uniform(-2, -0.9)) / count**0.3)
    grass(brush, rng, blades, color, 0.7, top=0.9)


def view(picture: Image.Image, rng: Generator, pixels: int) -> Image.Image:
    """Return what a rolled and sheared camera sees of a picture; no corner of the view lies outside."""
    right, down = rect(1, rng.normal(0, 0.12)) * np.array([1, 1j + rng.normal(0, 0.15)])
    reach = max(max(abs(z.real), abs(z.imag)) for z in (right + down, right - down))
    zoom = rng.uniform(0.85, 1) * picture.width / pixels / reach
    right, down = zoom * right, zoom * down
    start = (1 + 1j) * picture.width / 2 - (right + down) * pixels / 2
    matrix = (right.real, down.real, start.real, right.imag, down.imag, start.imag)
    return picture.transform((pixels, pixels), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def expose(photo: Image.Image, rng: Generator) -> Image.Image:
    """Return the photo under another light: exposure, color cast, dapples, saturation, grain."""
    dapples = np.exp(rng.normal(-0.05, 0.3) + rng.normal(0, 0.09, (3, 1, 1)) + rng.normal(0, 0.2, (5, 5)))
    bands = [Image.fromarray(band).resize(photo.size, Image.Resampling.BICUBIC) for band in dapples.astype(np.float32)]
    lit = np.asarray(photo, np.float32) * np.stack(bands, axis=-1)
    gray = lit.mean(axis=2, keepdims=True)
    lit = gray + (lit - gray) * np.float32(np.clip(rng.normal(1.1, 0.3), 0, 1.5))
    film = 305 * (1 - np.exp(lit / -185)) - 12  # as on film, bright parts fade slowly into white
    film += rng.standard_normal(film.shape, np.float32) * np.float32(rng.uniform(1, 9))
    return Image.fromarray(np.clip(film, 0, 255).astype(np.uint8))


def draw_flower(kind: str, seed: int | Sequence[int], size: int = 224) -> Image.Image:
    """Draw one picture.

    Parameters
    ----------
    kind : {"daisy", "dandelion", "roses", "sunflowers", "tulips"}
        The flower in front. The same seed gives every kind the same background.
    seed : int or sequence of ints
        Not negative. The same seed gives the same picture.
    size : int
        Width and height in pixels.

    Raises
    ------
    ValueError
        If there is no such kind.

    Examples
    --------
    >>> import tlkit as tl
    >>> tl.drawing.draw_flower("tulips", seed=7).size
    (224, 224)
    """
    if kind not in KINDS:
        msg = f"There is no kind of flower {kind!r}.{near_misses(kind, KINDS)} The kinds are {quoted(KINDS)}."
        raise ValueError(msg)
    behind, front, camera = np.random.default_rng(seed).spawn(3)
    light = UP + behind.normal(0, 0.8)
    picture = background(behind, light)
    foreground(Brush(picture, light), front, kind)
    photo = view(picture, camera, max(size, CANVAS // 2)).filter(ImageFilter.GaussianBlur(camera.exponential(0.8)))
    return expose(photo.resize((size, size), Image.Resampling.HAMMING), camera)


# A folder of pictures


def draw_flowers(
    folder: str | os.PathLike[str],
    per_class: int = 100,
    *,
    seed: int = 13,
    size: int = 224,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Draw a data set: one subfolder a kind, with the pictures `roses/roses_000.png` and so on.

    The folder appears when it is complete, whatever interrupts the drawing. A folder that holds the same drawings
    already is left as it is.

    Parameters
    ----------
    folder : path
        Where to draw; `drawing.json` in it says what was asked for.
    per_class : int
        How many pictures of each kind.
    seed : int
        Picture number n of kind number k is `draw_flower(KINDS[k], (seed, k, n), size)`.
    size : int
        Width and height in pixels.
    workers : int, optional
        How many processes draw. By default one a core, four at most; a single one where Python runs a script, which
        every process would run again.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    FileExistsError
        If the folder holds something else, or a part of the pictures.
    ValueError
        If `per_class` is below 1.
    """
    if per_class < 1:
        msg = f"per_class is the number of pictures of each kind; got {per_class}, expected 1 or more."
        raise ValueError(msg)
    folder = Path(folder)
    record = {"version": VERSION, "per_class": per_class, "seed": seed, "size": size}
    jobs = _jobs(per_class, seed, size)
    if folder.exists() and any(folder.iterdir()):
        return _checked(folder, jobs, record)
    unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:12]}")
    try:
        for kind in KINDS:
            (unfinished / kind).mkdir(parents=True)
        _draw_all(unfinished, jobs, _workers() if workers is None else workers, progress)
        (unfinished / "drawing.json").write_text(json.dumps(record), encoding="utf-8")
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()  # Windows replaces no folder, not even an empty one
        try:
            os.replace(unfinished, folder)
        except OSError:
            if not folder.exists():
                raise
            return _checked(folder, jobs, record)  # another process was faster
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _jobs(per_class: int, seed: int, size: int) -> list[tuple]:
    """Return the name, kind, seed and size of every picture."""
    digits = max(3, len(str(per_class - 1)))
    return [
        (f"{kind}/{kind}_{number:0{digits}}.png", kind, (seed, index, number), size)
        for index, kind in enumerate(KINDS)
        for number in range(per_class)
    ]


def _checked(folder: Path, jobs: list[tuple], record: dict[str, Any]) -> Path:
    """Return the folder if it holds these drawings; otherwise say why not."""
    try:
        found = json.loads((folder / "drawing.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    missing = [name for name, *_ in jobs if not (folder / name).is_file()]
    if found is None:
        why = "it has no readable drawing.json"
    elif found != record:
        why = f"it was drawn with {found}, and {record} is asked for"
    elif missing:
        why = f"{len(missing)} of {len(jobs)} pictures are missing, the first is {missing[0]}"
    else:
        return folder
    msg = (
        f"The folder {folder} exists but doesn't hold the drawings asked for: {why}. Delete it, or name another folder."
    )
    raise FileExistsError(msg)


def _draw_all(folder: Path, jobs: list[tuple], workers: int, progress: bool) -> None:
    """Draw every job into the folder, in several processes or in this one."""
    from tqdm.auto import tqdm  # which imports ipywidgets in a notebook

    with tqdm(total=len(jobs), desc="Drawing flowers", unit="picture", leave=False, disable=not progress) as bar:
        if workers > 1:
            # Spawned processes are the same on every system and share no threads or locks with a notebook's kernel.
            # They leave Ctrl-C to this process, which then cancels what they haven't begun.
            ignore_interrupt = (signal.SIGINT, signal.SIG_IGN)
            pool = ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, ignore_interrupt)
            try:
                for _ in pool.map(_draw_file, [folder] * len(jobs), *zip(*jobs, strict=True), chunksize=2):
                    bar.update()
                return
            except BrokenExecutor:
                bar.reset()  # processes can't start or were killed here: draw in this one
            finally:
                pool.shutdown(cancel_futures=True)
        for job in jobs:
            _draw_file(folder, *job)
            bar.update()


def _draw_file(folder: Path, name: str, kind: str, seed: tuple[int, ...], size: int) -> None:
    draw_flower(kind, seed, size).save(folder / name, compress_level=1)  # grain hardly compresses


def _workers() -> int:
    """Return how many processes may draw."""
    main = sys.modules["__main__"]
    module = getattr(main, "__spec__", None)
    if hasattr(main, "__file__") and not (module and module.name.endswith("__main__")):
        return 1  # a script, which every new process would run again
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores)
