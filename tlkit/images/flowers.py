"""How a flower is drawn: outlines, a brush that places them, and one function a kind.

Points are complex numbers, x + iy, so that turning a petal is a multiplication. `blade` makes most outlines, a `Brush`
places them in a picture, `petal` and `leaf` shade them, and `plant` puts a flower on its stem. What lies around the
flowers, and the camera, are in `tlkit.images.drawing`.
"""

from __future__ import annotations

import math
from cmath import phase, rect
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

__all__ = ["KINDS", "GREENS", "UP", "Brush", "blade", "leaf", "pick", "plant", "vary"]

UP = -math.pi / 2  # the rows of a picture count downwards
GOLDEN = math.pi * (3 - math.sqrt(5))  # the angle from one seed or petal to the next in most flowers
ALONG = (1 - np.cos(np.linspace(0, np.pi, 12))) / 2  # from the base of a blade to its tip, denser at both ends
GREENS = ((75, 125, 50), (95, 140, 70), (60, 105, 55))


# Outlines, colors, chance


def blade(
    length: float,
    width: float,
    base: float = 0.6,
    tip: float = 0.9,
    *,
    bend: float = 0.0,
    sway: float = 0.0,
    teeth: float = 0.0,
) -> np.ndarray:
    """Return the outline of a petal or leaf that grows from 0 along x.

    Parameters
    ----------
    length, width : float
        Its size, in units of the brush's plane.
    base, tip : float
        The shape of its ends: blunt near 0, pointed near 1.
    bend, sway : float
        How far the tip, or the middle, leaves the x axis.
    teeth : float
        How deep the margin is cut: 0 not at all, 1 to the midrib.

    Returns
    -------
    numpy.ndarray
        24 complex numbers: one side from base to tip, and the other side back.
    """
    half = ALONG**base * (1 - ALONG) ** tip
    half *= width / 2 / half.max() * (1 - teeth * (np.arange(len(ALONG)) % 2))
    spine = length * ALONG + 1j * (bend * ALONG**2 + sway * np.sin(np.pi * ALONG))
    return np.concatenate([spine + 1j * half, (spine - 1j * half)[::-1]])


def ring(rng: Generator, count: int, jitter: float = 0.05) -> np.ndarray:
    """Return the angles of petals around a flower, not quite regular."""
    return rng.uniform(0, 2 * np.pi) + np.arange(count) * 2 * np.pi / count + rng.normal(0, jitter, count)


def spiral(count: int) -> np.ndarray:
    """Return points that fill the unit disc as the seeds of a sunflower do."""
    return np.sqrt((np.arange(count) + 0.5) / count) * np.exp(1j * GOLDEN * np.arange(count))


def blend(first: Any, second: Any, share: float) -> np.ndarray:
    """Return a color between two."""
    return np.asarray(first) * (1 - share) + np.asarray(second) * share


def vary(rng: Generator, color: Any, amount: float = 10) -> np.ndarray:
    """Return a color near another."""
    return np.asarray(color) + rng.normal(0, amount) + rng.normal(0, amount / 2, 3)


def pick(rng: Generator, *choices: Any) -> Any:
    """Return one of several things."""
    return choices[rng.integers(len(choices))]


# Drawing


class Brush:
    """Draws in a plane of its own, placed in a picture by z -> a z + b conj(z) + c.

    The picture is 1 wide and 1 high. A flower has its center at 0 and a radius of 1, wherever it stands.

    Parameters
    ----------
    picture : PIL.Image.Image
        What to draw on.
    light : float
        The angle that the light comes from, in the picture; `lit` is the same angle in the plane.
    a, b, c : complex
        `a` turns and scales, `b` flattens, `c` moves.
    """

    def __init__(self, picture: Image.Image, light: float, a: complex = 1, b: complex = 0, c: complex = 0) -> None:
        self.picture, self.light, self.a, self.b, self.c = picture, light, a, b, c
        self.lit = phase(a.conjugate() * rect(1, light) - b * rect(1, -light))
        self.unit = picture.width * math.sqrt(abs(a) ** 2 - abs(b) ** 2)  # in pixels
        self.detail = min(1.0, 0.2 + self.unit / 120)  # what is small needs fewer strokes
        self.canvas = ImageDraw.Draw(picture, "RGBA")

    def moved(self, center: complex, turn: float = 0.0, scale: float = 1.0, squash: float = 1.0) -> Brush:
        """Return a brush for a plane inside this one; a `squash` below 1 looks at it from aside."""
        a, b = rect(scale * (1 + squash) / 2, turn), rect(scale * (1 - squash) / 2, turn)
        a, b = self.a * a + self.b * b.conjugate(), self.a * b + self.b * a.conjugate()
        c = self.a * center + self.b * complex(center).conjugate() + self.c
        return Brush(self.picture, self.light, a, b, c)

    def tilted(self, rng: Generator, least: float) -> Brush:
        """Return a brush for the same plane, seen from somewhere aside."""
        return self.moved(0, rng.normal(0, 0.5), squash=rng.uniform(least, 1))

    def tone(self, angle: float) -> float:
        """Return the brightness of what faces an angle of the plane: above 1 towards the light."""
        return 1 + 0.16 * math.cos(angle - self.lit)

    def polygon(self, outline: np.ndarray, color: Any) -> None:
        """Fill an outline. Colors are red, green, blue and, if there is a fourth number, opacity: 0 to 255."""
        self.canvas.polygon(self._placed(outline), fill=self._ink(color))

    def line(self, points: np.ndarray, color: Any, width: float) -> None:
        """Draw along points."""
        self.canvas.line(self._placed(points), self._ink(color), max(1, round(width * self.unit)), "curve")

    def disc(self, center: complex, radius: float, color: Any) -> None:
        """Fill a circle."""
        corners = 24 if radius * self.unit > 4 else 7
        self.polygon(center + radius * np.exp(2j * np.pi / corners * np.arange(corners)), color)

    def _placed(self, points: np.ndarray) -> list[float]:
        return ((self.a * points + self.b * points.conj() + self.c) * self.picture.width).view(float).tolist()

    @staticmethod
    def _ink(color: Any) -> tuple[int, ...]:
        return tuple([min(255, max(0, int(value))) for value in color])


def petal(brush: Brush, shape: np.ndarray, angle: float, rim: Any, heart: Any, steps: int = 4) -> None:
    """Fill a shape, turned to an angle, in colors from its rim to its base, over the shadow that it casts."""
    outline = shape * rect(1, angle)
    brush.polygon(outline - rect(0.025, brush.lit), (0, 0, 0, 50))
    for share in np.linspace(0, 1, steps):
        brush.polygon(outline * (1 - 0.75 * share), brush.tone(angle) * blend(rim, heart, share))


def leaf(brush: Brush, shape: np.ndarray, angle: float, color: np.ndarray) -> None:
    """Fill a shape as a leaf: one half darker than the other, and a pale midrib."""
    left, right = np.split(shape * rect(1, angle), 2)
    middle = (left + right[::-1]) / 2
    brush.polygon(np.concatenate([left, right]), color * brush.tone(angle))
    brush.polygon(np.concatenate([left, middle[::-1]]), color * 0.8)
    brush.line(middle[:-1], (*blend(color, (230, 240, 190), 0.4), 140), 0.012)


# The five kinds


def daisy(brush: Brush, rng: Generator) -> None:
    """Draw long blunt petals in two layers around a yellow dome."""
    brush, count = brush.tilted(rng, 0.45), rng.integers(10, 20)
    rim = vary(rng, pick(rng, (250, 250, 246), (250, 250, 246), (240, 236, 250), (238, 205, 228)), 4)
    heart = blend(rim, pick(rng, (150, 160, 185), (170, 175, 140)), 0.7)
    width = rng.uniform(3.2, 4.6) / count
    for layer in (0.84, 1):
        for angle in ring(rng, count):
            if rng.random() < 0.94:  # some petals have fallen
                shape = blade(rng.uniform(0.86, 1.02), width, 0.9, 0.3, bend=rng.normal(0, 0.07))
                petal(brush, shape, angle, rim * layer, heart * layer)
    dome(brush, rng, rng.uniform(0.22, 0.33))


def dome(brush: Brush, rng: Generator, radius: float) -> None:
    """Draw a yellow disc of florets that bulges towards the light."""
    top, side, count = (246, 196, 35), (176, 108, 15), int(60 * brush.detail)
    for share in np.linspace(0, 1, 5):
        brush.disc(rect(0.25 * radius * share, brush.lit), radius * (1 - 0.7 * share), blend(side, top, share))
    for floret in spiral(count):
        shade = blend(top, side, rng.uniform(0, 0.8) * abs(floret))
        brush.disc(floret * radius, 0.8 * radius / math.sqrt(count), vary(rng, shade, 14))


def dandelion(brush: Brush, rng: Generator) -> None:
    """Draw a yellow head or, as often, a clock of seeds."""
    pick(rng, dandelion_head, dandelion_clock)(brush, rng)


def dandelion_head(brush: Brush, rng: Generator) -> None:
    """Draw rings of narrow straps, the inner ones shorter."""
    brush, gold = brush.tilted(rng, 0.6), vary(rng, (250, 206, 20), 8)
    for reach in np.linspace(1, 0.2, int(3 + 4 * brush.detail)):
        for angle in ring(rng, int(14 + 24 * reach)):
            shape = blade(reach * rng.uniform(0.86, 1.05), 0.09 + 0.03 * reach, 1, 0.25, bend=rng.normal(0, 0.05))
            shade = gold * rng.uniform(0.84, 1.04)
            petal(brush, shape, angle, shade, shade * (0.82, 0.68, 0.5), steps=2)


def dandelion_clock(brush: Brush, rng: Generator) -> None:
    """Draw a ball of seeds, each a thread with a tuft of hairs; the wind may have taken a side of it."""
    count = int(rng.integers(80, 130) * brush.detail)
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    ball = np.sqrt(1 - height**2) * np.exp(1j * GOLDEN * np.arange(count))
    kept = (ball * rect(1, rng.uniform(0, 2 * np.pi))).real < pick(rng, 1, 1, 0.4)
    if kept.all():
        brush.disc(0, 1, (235, 238, 240, 40))
    for seed, near in zip(0.84 * ball[kept][::-1], height[kept][::-1], strict=True):
        brush.line(seed * np.array([0.1, 1]), (200, 195, 180, 130), 0.006)
        brush.line(seed * np.array([0.1, 0.3]), (110, 80, 50), 0.025)
        hairs = np.exp(1j * ring(rng, 10)) * rng.uniform(0.15, 0.22) * (1 - 0.35 * abs(near)) + seed * 0.12
        brush.polygon(seed + hairs, (245, 246, 248, 26))
        there_and_back = seed + np.column_stack([0 * hairs, hairs]).ravel()
        brush.line(there_and_back, (*np.full(3, 215 + 40 * near), 170 + 70 * near), 0.01)
    brush.disc(0, 0.12, vary(rng, (140, 120, 80), 8))


def roses(brush: Brush, rng: Generator) -> None:
    """Draw broad petals in a spiral, pale at the rim and dark where the next one overlaps them."""
    colors = (200, 15, 40), (225, 60, 110), (240, 150, 170), (246, 234, 218), (244, 196, 50), (238, 110, 50)
    brush, color = brush.tilted(rng, 0.7), vary(rng, pick(rng, *colors))
    rim, shadow = blend(color, (255, 250, 245), 0.16), color * (0.24, 0.1, 0.14)
    for angle in ring(rng, 5):
        leaf(brush, blade(1.15, 0.3), angle, vary(rng, GREENS[0]))
    lift, count = rng.uniform(-0.45, 0) * 1j, rng.integers(17, 27)  # a cup: the inner petals stand higher
    for step in range(count):
        radius = (1 - step / count) ** 0.85
        spread = np.linspace(-1, 1, 11) * (1.35 - 0.45 * radius)
        edge = radius * (1 - 0.2 * spread**4 + 0.05 * np.cos(3 * spread) + rng.normal(0, 0.018, 11))
        shape = np.append(edge * np.exp(1j * spread), -0.2 * radius)
        petal(brush.moved(lift * (1 - radius)), shape, step * GOLDEN, vary(rng, rim, 6), shadow, steps=6)
    curl = np.linspace(0, 9, 24)
    brush.line(lift + 0.012 * curl * np.exp(1j * curl), shadow, 0.02)


def sunflowers(brush: Brush, rng: Generator) -> None:
    """Draw pointed golden petals in three layers around a large dark disc of seeds."""
    brush, count, disc = brush.tilted(rng, 0.5), rng.integers(14, 22), rng.uniform(0.4, 0.54)
    gold = vary(rng, pick(rng, (252, 198, 20), (252, 198, 20), (252, 210, 40), (250, 224, 100), (200, 90, 25)), 8)
    for layer in (0.8, 0.9, 1):
        for angle in ring(rng, count, 0.07):
            shape = blade(rng.uniform(0.9, 1.06), 5.2 / count, 0.9, 0.75, bend=rng.normal(0, 0.1))
            petal(brush, shape, angle, vary(rng, gold * layer, 5), gold * (0.85, 0.5, 0.4))
    brush.disc(0, disc * 1.07, (60, 35, 15, 150))
    brush.disc(0, disc, (58, 36, 20))
    core = pick(rng, (105, 110, 50), (70, 48, 28))
    for seed in spiral(int(220 * brush.detail)):
        margin = (150, 96, 34) if abs(seed) > 0.8 else (50, 30, 20)
        color = core if abs(seed) < 0.42 else pick(rng, (56, 33, 18), (82, 52, 26), margin)
        brush.disc(seed * disc, disc * 0.045 / math.sqrt(brush.detail), vary(rng, color, 12))


def tulips(brush: Brush, rng: Generator) -> None:
    """Draw a cup from the side or, less often, an open flower from above."""
    colors = (212, 25, 40), (246, 196, 40), (236, 115, 160), (125, 40, 130), (246, 240, 230), (240, 120, 40)
    pick(rng, tulip_cup, tulip_cup, tulip_open)(brush, rng, vary(rng, pick(rng, *colors)))


def tulip_cup(brush: Brush, rng: Generator, color: np.ndarray) -> None:
    """Draw five petals that close to a bud or flare, the front ones over the others."""
    base, flare, belly = brush.moved(0.9j), rng.uniform(-0.2, 0.45), rng.uniform(0.18, 0.32)
    margin = blend(color, (255, 250, 235), rng.uniform(0, 0.4))
    sides = pick(rng, (-0.4, 0.4, -1, 1, 0), (0, -1, 1, -0.45, 0.4))
    for side, layer in zip(sides, (0.62, 0.66, 0.84, 0.88, 1), strict=True):
        length, angle = rng.uniform(1.65, 1.85), UP + 0.12 * side
        for share in (0, 0.1, 0.4, 0.7, 0.92):  # stripes, from the margin to the middle
            shade = (1 - 0.16 * share) * color if share else margin
            shape = blade(length, 0.9 * (1 - share), 0.5, 0.75, bend=flare * side, sway=belly * side)
            base.polygon(shape * rect(1, angle), layer * shade)


def tulip_open(brush: Brush, rng: Generator, color: np.ndarray) -> None:
    """Draw three broad petals over three others, around a star of another color with six stamens."""
    brush, angles = brush.tilted(rng, 0.65), ring(rng, 6)
    for angle, layer in zip([*angles[::2], *angles[1::2]], (0.78, 0.78, 0.78, 1, 1, 1), strict=True):
        shape = blade(rng.uniform(0.95, 1.1), 1.0, 0.6, 0.75, bend=rng.normal(0, 0.08))
        petal(brush, shape, angle, color * layer, 0.8 * color * layer)
        brush.line(shape[3:11] * rect(1, angle), (*(0.6 * color), 60), 0.02)
    star = pick(rng, (45, 25, 45), (240, 208, 80), (70, 80, 40))
    for size, shade in ((0.5, (*blend(star, (250, 225, 120), 0.6), 190)), (0.42, star)):
        for angle in angles:
            brush.polygon(blade(size, 0.7 * size, 0.5, 0.7) * rect(1, angle), shade)
    for angle in angles + 0.5:
        brush.line(np.array([0.06, 0.3]) * rect(1, angle), (60, 45, 50), 0.05)
    brush.disc(0, 0.09, (190, 200, 110))


DRAWERS = {"daisy": daisy, "dandelion": dandelion, "roses": roses, "sunflowers": sunflowers, "tulips": tulips}
KINDS = tuple(DRAWERS)
LEAVES = {  # an outline for a flower of radius 1, and the highest place on the stem: 0 is the flower, 1 the ground
    "daisy": (blade(0.9, 0.22, 1.1, 0.4), 0.6),
    "dandelion": (blade(1.6, 0.45, 1, 0.6, teeth=0.6), 0.75),
    "roses": (blade(0.85, 0.45, 0.6, 0.8, teeth=0.12), 0.25),
    "sunflowers": (blade(1.1, 0.85, 0.4, 0.8), 0.3),
    "tulips": (blade(2.4, 0.42, 0.5, 0.9, bend=0.3), 0.7),
}


def plant(brush: Brush, rng: Generator, kind: str, place: complex, radius: float) -> None:
    """Draw a stem that leaves the picture below, a few leaves on it, and the flower on top."""
    green, fall, width = vary(rng, pick(rng, *GREENS), 12), np.linspace(0, 1, 10), radius * rng.uniform(0.09, 0.16)
    stem = place + rng.normal(0, 0.15) * fall**2 + 1j * fall * max(1.1 - place.imag, 4 * radius)
    brush.line(stem, green * 0.75, width)
    brush.line(stem - 0.2 * width, green * 1.1, 0.35 * width)
    shape, highest = LEAVES[kind]
    for height in rng.uniform(highest, 1, rng.integers(1, 5)):
        side, size = pick(rng, -1, 1), radius * rng.uniform(0.7, 1.2)
        here = brush.moved(stem[int(9 * height)], UP + side * rng.uniform(0.2, 1.2), size)
        leaf(here, shape if side > 0 else shape.conj(), 0, vary(rng, green))
    DRAWERS[kind](brush.moved(place, rng.normal(0, 0.25), radius), rng)
