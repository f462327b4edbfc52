"""Whether a person can read a widget: words on their ground, nothing cut off, nothing on top of something else."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from playing import Locator

__all__ = ["hard_to_read", "out_of_place", "unnamed"]

READABLE = 4.5  # contrast of text as WCAG 2 asks for at level AA, and of large text:
READABLE_LARGE = 3.0
LARGE = 24.0  # pixels; bold text is large from 18.66 on
SHARE = 0.12  # of a word's box: a color with less is no ground

ROLES = ("button", "slider", "combobox", "listbox", "textbox", "spinbutton", "checkbox", "radio", "img", "progressbar")
NEAR = 24  # of 255: colors that are one for the eye

# Every piece of text with its box on the page, its color, and whether it belongs to a control that is switched off.
WORDS = """panel => {
    const words = [];
    const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode, element = node.parentElement;
        if (!node.textContent.trim() || element.closest('title, style, option, .sr-only')) continue;
        if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
        const style = getComputedStyle(element);
        const inDrawing = element instanceof SVGElement;
        let opacity = 1;
        for (let at = element; at; at = at.parentElement) opacity *= parseFloat(getComputedStyle(at).opacity);
        let left = -Infinity, right = Infinity; // what a scrolled part hides is no matter of color
        for (let at = element; at && at !== panel.parentElement; at = at.parentElement) {
            if (getComputedStyle(at).overflowX === 'visible') continue;
            const frame = at.getBoundingClientRect();
            [left, right] = [Math.max(left, frame.left), Math.min(right, frame.right)];
        }
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const box of range.getClientRects()) {
            if (box.width < 1 || box.height < 1 || box.left < left - 1 || box.right > right + 1) continue;
            words.push({ text: node.textContent.trim(), x: box.x, y: box.y, width: box.width, height: box.height,
                color: inDrawing ? style.fill : style.color, opacity, size: parseFloat(style.fontSize),
                bold: parseInt(style.fontWeight) >= 600, off: !!element.closest(':disabled, [aria-disabled=true]') });
        }
    }
    return words;
}"""

# What sticks out of the output, what is cut off inside, and pieces of text that lie on each other.
MISPLACED = """panel => {
    const found = [];
    const area = (panel.closest('.jp-OutputArea-output, .jp-OutputArea') ?? document.body).getBoundingClientRect();
    const scrolls = element => ['auto', 'scroll'].includes(getComputedStyle(element).overflowX);
    const told = element => (element.innerText ?? element.textContent).trim().replace(/\\s+/g, ' ').slice(0, 60);
    const texts = [];
    for (const element of panel.querySelectorAll('*')) {
        if (!element.checkVisibility({ visibilityProperty: true })) continue;
        const box = element.getBoundingClientRect();
        if (box.width < 1 || box.height < 1) continue;
        let inScroller = false;
        for (let at = element.parentElement; at && at !== panel.parentElement; at = at.parentElement)
            inScroller ||= scrolls(at);
        const own = [...element.childNodes].filter(node => node.nodeType === 3 && node.textContent.trim());
        const solid = own.length || element.matches('button, select, input, img, svg, canvas');
        if (solid && !inScroller && (box.left < area.left - 1 || box.right > area.right + 1))
            found.push(`sticks out of the output: ${told(element)}`);
        const style = getComputedStyle(element);
        if (style.overflowX === 'hidden' && element.scrollWidth > element.clientWidth + 1 && told(element))
            found.push(`cut off at its side: ${told(element)}`);
        if (style.overflowY === 'hidden' && element.scrollHeight > element.clientHeight + 2 && own.length)
            found.push(`cut off below: ${told(element)}`);
        for (const node of own) {
            if (element.closest('title, option')) continue;
            const range = document.createRange();
            range.selectNodeContents(node);
            for (const rect of range.getClientRects()) texts.push({ element, rect });
        }
    }
    texts.forEach(({ element, rect }, number) => {
        for (const other of texts.slice(number + 1)) {
            if (other.element === element) continue;
            const wide = Math.min(rect.right, other.rect.right) - Math.max(rect.left, other.rect.left);
            const high = Math.min(rect.bottom, other.rect.bottom) - Math.max(rect.top, other.rect.top);
            if (wide > 2 && high > 4) found.push(`on each other: ${told(element)} / ${told(other.element)}`);
        }
    });
    return [...new Set(found)];
}"""


def hard_to_read(widget: Locator) -> list[str]:
    """Return the words of a widget whose color is too close to the ground they stand on, as the browser painted it."""
    corner, words, picture = _painted(widget)
    found = []
    for word in words:
        if word["off"]:
            continue  # WCAG asks nothing of controls that are switched off
        box = (word["x"] - corner["x"], word["y"] - corner["y"])
        ground = _grounds(picture.crop((*box, box[0] + word["width"], box[1] + word["height"])), word)
        contrast, behind = min((_contrast(_seen(word, color), color), color) for color in ground)
        large = word["size"] >= LARGE or (word["bold"] and word["size"] >= 18.66)
        if contrast < (READABLE_LARGE if large else READABLE):
            found.append(f"{word['text']!r}: {word['color']} on {behind}, contrast {contrast:.1f}")
    return found


def out_of_place(widget: Locator) -> list[str]:
    """Return what sticks out of the widget's output, is cut off, or lies on something else."""
    return widget.evaluate(MISPLACED)


def unnamed(widget: Locator) -> list[str]:
    """Return the controls that have no name and the pictures that have no text, as a screen reader would find them."""
    lines = [line.strip(" -") for line in widget.aria_snapshot().splitlines()]
    return [line for line in lines if line.partition(":")[0].partition(" [")[0] in ROLES]


def _painted(widget: Locator) -> tuple[dict[str, float], list[dict[str, Any]], Image.Image]:
    """Return a widget's box, its words and its picture, of one moment in which nothing moved."""
    before, shot = None, b""
    while True:
        now = widget.bounding_box(), widget.evaluate(WORDS)
        if now == before:
            return *now, Image.open(io.BytesIO(shot)).convert("RGB")
        before, shot = now, widget.screenshot(scale="css")


def _grounds(crop: Image.Image, word: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Return the colors that fill a good part of a box, the text's own left out; hatching has several."""
    total = crop.width * crop.height
    counts = {color: count for count, color in crop.getcolors(total)}
    most = max(counts, key=counts.get)
    ink = _seen(word, most)
    others = [color for color, count in counts.items() if count > SHARE * total and _distance(color, ink) > NEAR]
    return list({most, *others})


def _rgb(css: str) -> tuple[tuple[int, int, int], float]:
    """Return color and opacity of what `getComputedStyle` says: ``rgb(0, 0, 0)`` or ``rgba(0, 0, 0, 0.5)``."""
    numbers = [float(number) for number in css[css.index("(") + 1 : -1].replace("/", ",").split(",")]
    red, green, blue, opacity = (*numbers, 1.0)[:4]
    return (round(red), round(green), round(blue)), opacity


def _seen(word: dict[str, Any], ground: tuple[int, int, int]) -> tuple[float, ...]:
    """Return the color of a text after its opacity has let the ground through."""
    color, opacity = _rgb(word["color"])
    opacity *= word["opacity"]
    return tuple(opacity * ink + (1 - opacity) * paper for ink, paper in zip(color, ground, strict=True))


def _distance(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast ratio of two colors as WCAG 2 defines it, from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: tuple[float, ...]) -> float:
    parts = [value / 255 for value in color]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
