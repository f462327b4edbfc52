"""Photos in widgets: a field to upload one and a view to show one, neither of which a notebook saves."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

__all__ = ["PhotoUpload", "PhotoView", "jpeg", "thumbnail"]

TOO_LARGE = "The file has more than 6 MB and is no picture that this browser can make smaller. Choose a JPEG file."


class PhotoUpload(anywidget.AnyWidget):
    """A field to choose a photo from this computer.

    The photo travels as a message. Unlike the value of ipywidgets' FileUpload, a message is no part of the widget's
    state, which JupyterLab and papermill may save with the notebook. The browser makes files of more than 6 MB
    smaller, because Jupyter's servers accept no messages beyond ten.

    Parameters
    ----------
    received : callable
        Called with the bytes of each photo.
    refused : callable
        Called with a sentence, where a file is too large.
    """

    _esm = Path(__file__).with_name("upload.js")
    label = traitlets.Unicode("Upload a photo").tag(sync=True)
    accept = traitlets.Unicode(".jpg,.jpeg,.png,.webp").tag(sync=True)

    def __init__(self, received: Callable[[bytes], None], refused: Callable[[str], None]) -> None:
        super().__init__()
        self._received, self._refused = received, refused
        self.on_msg(self._arrived)

    def _arrived(self, _: Any, content: str, buffers: list[Any]) -> None:
        if content == "photo":
            self._received(bytes(buffers[0]))
        else:
            self._refused(TOO_LARGE)

    def __repr__(self) -> str:
        return f"PhotoUpload({self.label!r})"


class PhotoView(anywidget.AnyWidget):
    """Shows one picture, which travels as a message and is never part of the widget's state.

    A notebook that is saved with its widgets, by JupyterLab or by papermill, holds their states. What somebody
    uploads has no business there.

    Examples
    --------
    >>> import numpy as np
    >>> from tlkit.widgets.photo import PhotoView
    >>> view = PhotoView()
    >>> view.show(np.zeros((3, 8, 8), np.uint8), "A black square")
    >>> view
    PhotoView('A black square')
    """

    _esm = Path(__file__).with_name("photo.js")

    def __init__(self) -> None:
        super().__init__()
        self._alt, self._picture = "", b""
        self.on_msg(lambda *_: self._tell())  # a view that was opened asks for its picture

    def show(self, pixels: Any, alt: str) -> None:
        """Show pixels, uint8 of shape (3, height, width), with a text for those who do not see them."""
        self._alt, self._picture = alt, jpeg(pixels)
        self._tell()

    def clear(self) -> None:
        """Show nothing."""
        self._alt, self._picture = "", b""
        self._tell()

    def _tell(self) -> None:
        self.send({"alt": self._alt}, [self._picture] if self._picture else [])

    def __repr__(self) -> str:
        return f"PhotoView({self._alt!r})"


def jpeg(pixels: Any, side: int = 224) -> bytes:
    """Return uint8 pixels of shape (3, height, width) as a JPEG file, at most `side` pixels high and wide."""
    picture = Image.fromarray(np.ascontiguousarray(np.asarray(pixels).transpose(1, 2, 0)))
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75, optimize=True)
    return file.getvalue()


def thumbnail(pixels: Any, alt: str, side: int = 112) -> str:
    """Return pixels as an `<img>` element with its text."""
    data = base64.b64encode(jpeg(pixels, side)).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}" width="{side}" height="{side}">'
