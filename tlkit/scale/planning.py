"""What featurizing some number of pictures takes: bytes, shards, hours, processors and network."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import torch

from tlkit.builder import TransferLearning
from tlkit.errors import quoted
from tlkit.features.engines import Engine, choose_batch_size
from tlkit.features.spec import StoreSpec
from tlkit.graph.network import Network
from tlkit.helper import TransferLearningHelper
from tlkit.images.decoding import Geometry, decode
from tlkit.images.preprocessing import Preprocessing
from tlkit.markup import html_row, html_table
from tlkit.memory import counted, readable_size

__all__ = ["Plan", "plan"]

MEASURED = 1.0  # seconds that each rate is measured for, when it is not given
PHOTO = (500, 375)  # pixels of the picture whose decoding is timed


def plan(
    n_images: int | Sequence[int],
    net: Network,
    boundary: str | int | Sequence[str | int],
    *,
    workers: int = 1,
    images_per_second: float | None = None,
    decode_per_core: float | None = None,
    bytes_per_image: int = 100_000,
    dtype: torch.dtype = torch.float32,
) -> Plan:
    """Return what featurizing takes, as a table.

    Parameters
    ----------
    n_images : int or sequence of int
        How many pictures; several numbers give a column each.
    net : Network
        The network; it is left alone.
    boundary : str, int or sequence of them
        What is frozen: these vertices and everything that feeds them.
    workers : int
        GPUs, or processes on processors, that run the frozen part at the same time.
    images_per_second : float, optional
        Pictures that one worker runs through the frozen part in a second. Measured on this machine when left out,
        for the network's present device.
    decode_per_core : float, optional
        Pictures that one processor core decodes in a second. Measured when left out, with a photo of 500 x 375 pixels.
    bytes_per_image : int
        Size of a picture's file.
    dtype : torch.dtype
        How the features are kept.

    Returns
    -------
    Plan
        A table that prints as text and shows as HTML in a notebook.

    Raises
    ------
    ValueError
        When a number is not positive, or the network has no such boundary.

    Examples
    --------
    >>> import tlkit as tl
    >>> net = tl.zoo.load("vgg16", weights=None)
    >>> tl.scale.plan(10**9, net, "fc2", workers=64, images_per_second=4000, decode_per_core=600)
    Featurize up to 'fc2', 16.4 kB of features a picture
    pictures                    1,000,000,000
    to read                            100 TB
    ...
    time on 64 workers                 65 min
    ...
    """
    counts = (n_images,) if isinstance(n_images, int) else tuple(n_images)
    if not counts:
        msg = "n_images is the number of pictures, or several such numbers; got none."
        raise ValueError(msg)
    given = {
        "n_images": min(counts),
        "workers": workers,
        "images_per_second": images_per_second,
        "decode_per_core": decode_per_core,
        "bytes_per_image": bytes_per_image,
    }
    for name, value in given.items():
        if value is not None and not value > 0:
            msg = f"{name} must be more than 0, got {value}."
            raise ValueError(msg)
    names = (boundary,) if isinstance(boundary, (str, int)) else tuple(boundary)
    frozen = TransferLearning(net).set_feature_extractor(*names).build()  # a copy; `net` is left alone
    helper = TransferLearningHelper(frozen)
    shapes = helper.unfrozen_network.input_shapes
    row = StoreSpec({}, shapes, dtype, ("all",), torch.zeros(1, dtype=torch.long))
    measured = tuple(name for name in ("images_per_second", "decode_per_core") if given[name] is None)
    return Plan(
        counts=counts,
        boundary=tuple(shapes),
        workers=workers,
        images_per_second=images_per_second or _images_per_second(helper, max(counts), dtype),
        decode_per_core=decode_per_core or _decode_per_core(net.preprocessing),
        bytes_per_image=bytes_per_image,
        bytes_per_row=row.row_bytes,
        rows_per_shard=row.rows_per_shard,
        measured=measured,
    )


@dataclass(frozen=True)
class Plan:
    """What featurizing takes; made by `plan`, with a column for each number of pictures.

    Parameters
    ----------
    counts : tuple of int
        Numbers of pictures.
    boundary : tuple of str
        Names of the boundary tensors.
    workers : int
        How many run the frozen part at the same time.
    images_per_second, decode_per_core : float
        What one worker runs through the network in a second, and what one core decodes.
    bytes_per_image, bytes_per_row : int
        Size of a picture's file, and of its features on disk.
    rows_per_shard : int
        Pictures in one file of features.
    measured : tuple of str
        Which of the two rates this machine gave.
    """

    counts: tuple[int, ...]
    boundary: tuple[str, ...]
    workers: int
    images_per_second: float
    decode_per_core: float
    bytes_per_image: int
    bytes_per_row: int
    rows_per_shard: int
    measured: tuple[str, ...] = ()

    @property
    def feature_bytes(self) -> tuple[int, ...]:
        """Size of the store."""
        return tuple(count * self.bytes_per_row for count in self.counts)

    @property
    def shards(self) -> tuple[int, ...]:
        """Files of features in the store."""
        return tuple(-(-count // self.rows_per_shard) for count in self.counts)

    @property
    def worker_hours(self) -> tuple[float, ...]:
        """Hours of one worker: GPU hours, where the workers are GPUs."""
        return tuple(count / self.images_per_second / 3600 for count in self.counts)

    @property
    def wall_seconds(self) -> tuple[float, ...]:
        """Time from start to end, with all workers busy."""
        shards = self.shards
        return tuple(
            3600 * hours / min(self.workers, files) for hours, files in zip(self.worker_hours, shards, strict=True)
        )

    @property
    def decoding_cores(self) -> int:
        """Processor cores that decode pictures as fast as all the workers take them."""
        return math.ceil(self.workers * self.images_per_second / self.decode_per_core)

    @property
    def core_hours(self) -> tuple[float, ...]:
        """Hours of one core that decoding takes in all."""
        return tuple(count / self.decode_per_core / 3600 for count in self.counts)

    @property
    def reading_rate(self) -> float:
        """Bytes of pictures that all the workers read in a second."""
        return self.workers * self.images_per_second * self.bytes_per_image

    def rows(self) -> dict[str, list[str]]:
        """Return the lines of the table: what, and a text for each number of pictures."""
        requests = [count + 2 * shards for count, shards in zip(self.counts, self.shards, strict=True)]
        every = len(self.counts)
        return {
            "pictures": [f"{count:,}" for count in self.counts],
            "to read": [readable_size(count * self.bytes_per_image) for count in self.counts],
            "features on disk": [readable_size(size) for size in self.feature_bytes],
            "shards": [f"{count:,}" for count in self.shards],
            "hours of one worker": [_hours(hours) for hours in self.worker_hours],
            "hours of one decoding core": [_hours(hours) for hours in self.core_hours],
            f"time on {counted(self.workers, 'worker')}": [_time(seconds) for seconds in self.wall_seconds],
            "cores that keep them busy": [f"{self.decoding_cores:,}"] * every,
            "network while they work": [f"{readable_size(self.reading_rate)}/s"] * every,
            "requests to object storage": [f"{count:,}" for count in requests],
        }

    def __str__(self) -> str:
        table = self.rows()
        width = max(map(len, table))
        widths = [max(len(cells[column]) for cells in table.values()) for column in range(len(self.counts))]
        lines = [
            f"{name:{width}}  " + "  ".join(cell.rjust(wide) for cell, wide in zip(cells, widths, strict=True))
            for name, cells in table.items()
        ]
        return "\n".join([self._caption(), *lines, self._rates()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        name, number = "padding:2px 12px 2px 0;text-align:left", "padding:2px 0 2px 16px;text-align:right"
        rows = [html_row([what, *cells], [name, *[number] * len(cells)]) for what, cells in self.rows().items()]
        html = html_table(rows, caption=self._caption(), caption_style="text-align:left;white-space:nowrap")
        return f"{html}<p>{escape(self._rates())}</p>"

    def _caption(self) -> str:
        return f"Featurize up to {quoted(self.boundary)}, {readable_size(self.bytes_per_row)} of features a picture"

    def _rates(self) -> str:
        texts = {
            "images_per_second": f"one worker runs {_rate(self.images_per_second)} pictures a second",
            "decode_per_core": f"one core decodes {_rate(self.decode_per_core)}",
        }
        said = [text + " (measured here)" * (name in self.measured) for name, text in texts.items()]
        return f"Rates: {said[0]}, {said[1]}. Money: the hours, bytes and requests times your prices."


# -- measuring ------------------------------------------------------------------------------------------------------


def _images_per_second(helper: TransferLearningHelper, rows: int, dtype: torch.dtype) -> float:
    """Run the frozen part in the form that `featurize` would take for so many rows."""
    net = helper.frozen_network
    batch = choose_batch_size(net)
    engine = Engine("auto", net, rows, batch, dtype)
    with torch.random.fork_rng(devices=[]):
        x = {name: torch.randn(batch, *shape) for name, shape in net.input_shapes.items()}

    def run() -> None:
        for value in engine(x).values():
            value.sum().item()  # waits for a GPU

    return batch * _times_per_second(run)


def _decode_per_core(preprocessing: Preprocessing | None) -> float:
    """Decode a drawn flower with as many pixels as a photo, in one thread."""
    from tlkit.images.drawing import draw_flower

    stream = io.BytesIO()
    draw_flower("daisy", seed=1, size=round(math.sqrt(math.prod(PHOTO)))).save(stream, "JPEG", quality=90)
    geometry = Geometry.of(preprocessing) if preprocessing else Geometry()
    return _times_per_second(lambda: decode(io.BytesIO(stream.getvalue()), geometry))


def _times_per_second(run: Callable[[], object]) -> float:
    run()  # the first time takes longer
    times = 0
    start = time.perf_counter()
    while (seconds := time.perf_counter() - start) < MEASURED:
        run()
        times += 1
    return times / seconds


# -- in words -------------------------------------------------------------------------------------------------------


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 9.95 else f"{hours:.2g}"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.2g}"


def _time(seconds: float) -> str:
    for size, unit in ((24 * 3600, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}" if seconds >= 9.95 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
