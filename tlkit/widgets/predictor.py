"""Predictor: show a network a photo, and read its five most probable answers."""

from __future__ import annotations

import os
from typing import Any

import ipywidgets
from torch import Tensor

from tlkit.errors import sentence
from tlkit.graph.network import Network
from tlkit.images.sets import ImageSet
from tlkit.memory import counted
from tlkit.widgets.answers import Answer, are_scores, ask, check_classifier, rank_answers, read_picture
from tlkit.widgets.face import Panel, code_block, error, headline, note, table
from tlkit.widgets.photo import PhotoUpload, PhotoView, thumbnail

__all__ = ["Predictor"]

SHOWN = 5  # classes
EMPTY = "Upload a photo (JPEG, PNG or WebP). It stays in memory, and no notebook saves it."


class Predictor(Panel):
    """Upload a photo or pick one of a test set, and see the five most probable classes as bars.

    With a second network, its answers stand beside: the same photo before and after fine-tuning. The two may know
    other classes, such as ImageNet's thousand and five flowers.

    An uploaded photo stays in memory until the next one, and is kept out of everything that a notebook saves.

    Parameters
    ----------
    net : Network
        Its `preprocessing` says how a photo is brought into its form.
    images : ImageSet, optional
        Pictures to pick from, such as ``flowers.test``; the first one is shown at once.
    before : Network, optional
        A second network to ask.

    Attributes
    ----------
    code : str
        Python that asks `net` about the same picture, with `tl`, `net` and `images`; an uploaded photo is called
        ``"photo.jpg"``.

    Raises
    ------
    TypeError, ValueError
        When a network takes no photos or answers with no classes, or `images` are none.

    Examples
    --------
    >>> import tlkit as tl
    >>> predictor = tl.Predictor(tl.zoo.load(), tl.images.load("drawn", per_class=5).test)
    >>> predictor
    Predictor(1,000 classes, 5 pictures to pick from)
    >>> len(predictor.predict(0))
    5
    """

    def __init__(self, net: Network, images: ImageSet | None = None, *, before: Network | None = None) -> None:
        self._nets = {"Answer": net} if before is None else {"Before": before, "After": net}
        for other in self._nets.values():
            check_classifier(other)
        _check_images(images)
        self._net, self._images = net, images
        self._row: int | None = None  # of the picture that is shown; None for an uploaded one
        self._said: dict[str, Tensor] = {}  # what the networks answer, by title
        self._make_controls()
        shown = ipywidgets.HBox([self._photo, self._tables], layout={"flex_flow": "row wrap", "grid_gap": "4px 24px"})
        super().__init__([self._upload, self._slider, self._head, shown, self._folded])
        if images is None:
            self._show()
        else:
            self._look(0)

    # -- what a program asks ------------------------------------------------------------------------------------

    def predict(self, picture: int | str | os.PathLike[str] | bytes) -> list[Answer]:
        """Show a picture, and return the network's five most probable answers: (name, probability).

        Parameters
        ----------
        picture : int, path or bytes
            A row number of `images`, a picture file, or the bytes of one.

        Raises
        ------
        IndexError, ValueError
            When there is no such row, or the file is no picture.
        RuntimeError
            When the network is being trained.
        """
        self._look(picture)
        return self._answers()[-1][2]

    @property
    def code(self) -> str:
        """Python that asks the network about the same picture."""
        where = '"photo.jpg"' if self._row is None else f"images.paths[{self._row}]"
        place = next((weight.device for weight in self._net.parameters()), "cpu")
        moved = "" if str(place) == "cpu" else f'.to("{place}")'
        softmax = ".softmax(0)" if self._said and are_scores([*self._said.values()][-1]) else ""
        name = "net.classes[number]" if self._net.classes else "number"
        return (
            "import torch\n"
            "from tlkit.images import Geometry, decode\n\n"
            f"pixels = torch.from_numpy(decode({where}, Geometry.of(net.preprocessing)))\n"
            "with torch.no_grad():\n"
            f"    probabilities = net(pixels[None]{moved})[0]{softmax}\n"
            f"for number in probabilities.argsort(descending=True)[:{SHOWN}].tolist():\n"
            f'    print({name}, f"{{probabilities[number]:.1%}}")'
        )

    def face(self) -> str:
        """Return the answers and the code as HTML; a picture of the test set is shown, an uploaded photo is not."""
        picture = "" if self._row is None else f"<div>{thumbnail(self._images[self._row][0], self._alt())}</div>"
        return self._headline() + picture + self._drawn() + code_block(self.code)

    def __repr__(self) -> str:
        counts = [f"{net.output_shapes()[net.outputs[0]][0]:,} classes" for net in self._nets.values()]
        pictures = "no pictures" if self._images is None else counted(len(self._images), "picture")
        return f"Predictor({' and '.join(counts)}, {pictures} to pick from)"

    # -- controls -----------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        self._upload = PhotoUpload(self._try, lambda why: self._fail(ValueError(why)))
        self._slider = ipywidgets.IntSlider(
            value=1,
            min=1,
            max=max(1, len(self._images or ())),
            description="Test picture",
            continuous_update=False,
            style={"description_width": "90px"},
            layout={"width": "520px", "max_width": "100%", "display": "none" if self._images is None else ""},
        )
        self._head, self._tables, self._code = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self._photo = PhotoView()
        self._photo.layout = {"max_width": "100%", "overflow": "hidden"}
        self._folded = ipywidgets.Accordion([self._code], titles=["The same in code (.code)"], selected_index=None)
        self._slider.observe(self._moved, "value")

    def _moved(self, change: dict[str, Any]) -> None:
        if change["new"] - 1 != self._row:
            self._try(change["new"] - 1)

    def _try(self, picture: int | bytes) -> None:
        try:
            self._look(picture)
        except Exception as problem:  # whatever it is, the reader must see it: here it would vanish into a log
            self._fail(problem)

    def _fail(self, problem: Exception) -> None:
        self._forget()
        self._head.value = error(sentence(problem))

    # -- asking and showing -------------------------------------------------------------------------------------

    def _look(self, picture: int | str | os.PathLike[str] | bytes) -> None:
        """Ask the networks about a picture and show what they say; of one that fails nothing is shown."""
        self._forget()
        row = None if isinstance(picture, (str, os.PathLike, bytes)) else self._checked(picture)
        file = picture if row is None else self._images.paths[row]
        seen = {title: read_picture(file, net) for title, net in self._nets.items()}
        self._said = {title: ask(net, seen[title]) for title, net in self._nets.items()}
        self._row = row
        if row is not None:
            self._slider.value = row + 1
        self._photo.show([*seen.values()][-1], self._alt())
        self._show()

    def _forget(self) -> None:
        self._row, self._said = None, {}
        self._photo.clear()
        self._show()

    def _checked(self, row: int) -> int:
        count = len(self._images or ())
        if not 0 <= row < count:
            msg = f"There is no picture {row}: the widget has {count} to pick from, counted from 0."
            raise IndexError(msg)
        return int(row)

    def _show(self) -> None:
        self._head.value, self._tables.value = self._headline(), self._drawn()
        self._code.value = code_block(self.code, titled=False)

    def _headline(self) -> str:
        if not self._said:
            return note(EMPTY)
        return headline(f"{self._alt()}.")

    def _alt(self) -> str:
        if self._row is None:
            return "Your photo, cut to the square that the network sees"
        path = self._images.paths[self._row]
        where = f"Test picture {self._row + 1:,} of {len(self._images):,}"
        return f"{where}: {self._truth()} (file {path.parent.name}/{path.name})"

    def _truth(self) -> str:
        return "" if self._row is None else self._images.classes[int(self._images.labels[self._row])]

    def _answers(self) -> list[tuple[str, Network, list[Answer]]]:
        """Return title, network and most probable classes."""
        return [
            (title, self._nets[title], rank_answers(self._nets[title], x, SHOWN)) for title, x in self._said.items()
        ]

    def _drawn(self) -> str:
        """Draw the answers as bars, those of two networks side by side."""
        tables = []
        for title, net, best in self._answers():
            verdict = ""
            if self._truth() in net.classes:
                verdict = ", correct" if best[0].name == self._truth() else ", wrong"
            rows = [(name, f"{share:.1%}", share) for name, share in best]
            caption = f"{title}: {best[0].name}{verdict}"
            tables.append(
                f"<div>{table(['class', 'probability', ''], rows, words=['class', ''], caption=caption)}</div>"
            )
        return f'<div style="display:flex;flex-wrap:wrap;gap:4px 40px">{"".join(tables)}</div>' if tables else ""


def _check_images(images: Any) -> None:
    if images is not None and not isinstance(images, ImageSet):
        hint = " Pass its .test." if hasattr(images, "test") else ""
        msg = f"The pictures to pick from are images, such as tl.images.load().test, got {type(images).__name__}.{hint}"
        raise TypeError(msg)
    if images is not None and not len(images):
        msg = "There are no pictures to pick from: the images are empty. Leave them out, or give others."
        raise ValueError(msg)
