"""TrainingMonitor: start and stop a training, and watch what it does while it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any

import ipywidgets

from tlkit.errors import sentence
from tlkit.memory import counted
from tlkit.training.loop import History
from tlkit.widgets.curves import draw_training
from tlkit.widgets.face import Panel, code_block, error, headline, note
from tlkit.widgets.layer_table import layer_table
from tlkit.widgets.stopwatch import describe_seconds, seconds_left
from tlkit.widgets.training_call import TrainingCall
from tlkit.widgets.training_log import TrainingLog
from tlkit.widgets.training_watch import Watch

__all__ = ["TrainingMonitor"]

POLLED_EVERY = 0.05  # seconds


class TrainingMonitor(Panel):
    """Start and Stop for a training, with progress and time left, learning curves, and the size of each layer's steps.

    It takes the function and what it is called with, as `functools.partial` does. Nothing is trained before
    ``await monitor.run()`` or a click on Start. Training runs in a thread beside the notebook, so that a click on Stop
    ends it within one batch. The network is then what training for that many batches makes of it; Start goes on from
    there, as a second call of `tl.fit` would.

    In a notebook, ``await monitor.run()`` as a cell's last line shows the monitor, trains, and lets the cells below
    wait, also in *Run All* and under papermill. Where training fails, the monitor shows the error, and `run` raises it,
    so that a notebook stops where it would have stopped with `tl.fit`. After a click on Start nobody waits, and the
    error is shown only. The toolbar's interrupt ends training within one batch too, and then the cell.

    Parameters
    ----------
    function : callable
        `tl.fit`, or `fit_featurized` of a `TransferLearningHelper`.
    *arguments, **options
        What it is called with, such as the network, the images and ``epochs=3``.
    test : ImageSet, Features, FeatureStore or (x, y), optional
        What accuracy is measured on. A click on Stop cuts a measurement short; one that a listener of yours makes is
        finished first.
    test_every : int, optional
        Iterations between two measurements; an epoch when left out. After the last iteration there is one more.

    Attributes
    ----------
    history : History or None
        Of the training that runs or ran last.
    running : bool
        Whether it is training.
    code : str
        The same call as Python, with `tl`, `net` and `data` (or `helper` and `features`), and with `test` and
        `listeners` where they are given.

    Raises
    ------
    TypeError, ValueError
        When the function is none of the two, or the arguments do not fit it.

    Examples
    --------
    >>> import asyncio, torch, tlkit as tl
    >>> empty = tl.Network({}, inputs={"x": (4,)}, outputs=["x"])
    >>> net = tl.TransferLearning(empty).add_layer("answer", tl.Output(2), "x").set_outputs("answer").build()
    >>> monitor = tl.TrainingMonitor(tl.fit, net, (torch.rand(20, 4), torch.arange(20) % 2), epochs=2, batch_size=10)
    >>> monitor
    TrainingMonitor(tl.fit: 4 iterations of 10, not started)
    >>> print(monitor.code)
    history = tl.fit(net, data, epochs=2, batch_size=10)
    >>> asyncio.run(monitor.run())  # in a notebook: await monitor.run()
    History(4 iterations, 40 examples)
    """

    def __init__(
        self,
        function: Callable[..., History],
        *arguments: Any,
        test: Any = None,
        test_every: int | None = None,
        **options: Any,
    ) -> None:
        self._call = TrainingCall(function, *arguments, test=test, test_every=test_every, **options)
        self._seen = TrainingLog()
        self._watch = Watch(self._show)
        self._lock = threading.Lock()  # some versions of ipykernel call handlers from a second thread
        self._thread: threading.Thread | None = None
        self._running = False
        self._problem: BaseException | None = None
        self._began = 0.0
        self._displayed = False
        self._make_controls()
        code = ipywidgets.HTML(code_block(self.code, titled=False))
        code = ipywidgets.Accordion([code], titles=["The same in code (.code)"], selected_index=None)
        controls = ipywidgets.HBox(
            [self._start, self._stop, self._bar], layout={"flex_flow": "row wrap", "align_items": "center"}
        )
        super().__init__([controls, self._status, self._charts, self._table, code])
        self._show()

    # -- what a program asks and does ---------------------------------------------------------------------------

    @property
    def history(self) -> History | None:
        """Of the training that runs or ran last."""
        return self._watch.history

    @property
    def running(self) -> bool:
        """Whether it is training."""
        return self._running

    @property
    def code(self) -> str:
        """The same call as Python."""
        return self._call.code

    def start(self) -> None:
        """Begin to train, as a click on Start does; nothing happens while it is training already."""
        with self._lock:
            if self.running:
                return
            self._watch = Watch(self._show)
            self._problem, self._running = None, True
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._train, name="TrainingMonitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask training to end after the present batch, as a click on Stop does."""
        self._watch.stop("by hand")

    async def run(self) -> History:
        """Show the monitor, train, and return the history when training has ended: ``await monitor.run()``.

        A training that is running is waited for. What goes wrong in training is raised here.
        """
        display = self._display()
        self.start()
        thread = self._thread
        try:
            while thread.is_alive():
                await asyncio.sleep(POLLED_EVERY)
        except (KeyboardInterrupt, asyncio.CancelledError):
            self._watch.stop("interrupted")
            thread.join()
            raise
        finally:
            if display is not None:
                display.update(self)  # so that the saved notebook holds the end and not the beginning
        if self._problem is not None:
            raise self._problem
        return self.history

    def face(self) -> str:
        """Return how it stands, the curves and the code as HTML; seconds are left out, which differ from run to run."""
        pictures = "".join(f"<div>{picture.html}</div>" for picture in self._pictures())
        return self._report(seconds=False) + pictures + layer_table(self._seen.layers) + code_block(self.code)

    def __repr__(self) -> str:
        work = f"{counted(self._call.iterations, 'iteration')} of {self._call.batch_size}"
        return f"TrainingMonitor({self._call.name}: {work}, {self._state()})"

    # -- training -----------------------------------------------------------------------------------------------

    def _train(self) -> None:
        """Make the call; runs in a thread of its own, which writes traits of widgets and prints nothing."""
        try:
            self._show()
            self._call([*self._watch.testing(self._call.test, self._call.test_every), self._seen, self._watch])
        except BaseException as problem:
            self._problem = problem
        finally:
            self._running = False
            self._show()

    # -- what is shown ------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        self._start = ipywidgets.Button(
            description="Start", icon="play", tooltip="Train; a stopped training goes on from where it was"
        )
        self._stop = ipywidgets.Button(description="Stop", icon="stop", tooltip="End training after the present batch")
        self._bar = ipywidgets.IntProgress(
            description="Progress",
            max=max(self._call.iterations, 1),
            style={"description_width": "70px"},
            layout={"flex": "1 1 280px", "width": "auto"},
        )
        self._status, self._charts, self._table = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self._start.on_click(lambda _: self.start())
        self._stop.on_click(lambda _: self.stop())

    def _show(self, doing: str = "") -> None:
        """Bring every control up to date."""
        self._start.disabled = self.running
        self._stop.disabled = not self.running
        self._bar.max, self._bar.value = max(self._call.iterations, 1), self._seen.iteration
        self._status.value = self._report(seconds=True, doing=doing)
        done = len(self._seen.losses)
        last = max(self._seen.starts[-1] + self._call.iterations, done) if self.running and done else done
        self._charts.value = draw_training(self._seen, last)
        self._table.value = layer_table(self._seen.layers)

    def _display(self) -> Any:
        """Show the monitor in the cell that runs, unless an earlier one has shown it."""
        from IPython import get_ipython
        from IPython.display import display

        if self._displayed or get_ipython() is None:
            return None
        return display(self, display_id=True)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        self._displayed = True
        return super()._repr_mimebundle_(**kwargs)

    def _state(self) -> str:
        if self.running:
            return "training"
        if self._problem is not None:
            return "failed"
        if self.history is None:
            return "not started"
        return f"stopped: {self.history.stopped}" if self.history.stopped else "finished"

    def _report(self, *, seconds: bool, doing: str = "") -> str:
        """Return in words how it stands."""
        seen, call = self._seen, self._call
        state = self._state()
        total = counted(call.iterations, "iteration")
        if state == "not started":
            epoch = f"an epoch has {call.per_epoch:,}"
            return headline("Not started.") + note(f"Start trains {total} of {call.batch_size} examples; {epoch}.")
        if state == "failed":
            return error(sentence(self._problem)) + (self._reached(seconds) if seen.iteration else "")
        if state == "training":
            epoch = max(seen.iteration - 1, 0) // call.per_epoch + 1
            where = f"iteration {seen.iteration:,} of {call.iterations:,}, epoch {epoch} of {call.epochs}"
            return headline(f"Training: {where}. {doing or self._left(seconds)}".rstrip()) + self._reached(seconds)
        if state == "finished":
            return headline(f"Finished: {total}.") + self._reached(seconds)
        ended = f"Stopped after iteration {seen.iteration:,} of {call.iterations:,}: {self.history.stopped}."
        return headline(ended) + self._reached(seconds)

    def _reached(self, seconds: bool) -> str:
        """Return the last loss and accuracy as a sentence."""
        words = [f"Loss {self._seen.losses[-1]:.3f}"] if self._seen.losses else []
        words += [f"test accuracy {accuracy:.1%}" for _, accuracy in self._seen.evaluations[-1:]]
        if seconds and not self.running and self.history is not None:
            words.append(f"{self.history.seconds:.1f} s in all")
        return note(f"{', '.join(words)}.") if words else ""

    def _left(self, seconds: bool) -> str:
        took = time.monotonic() - self._began
        left = seconds_left(self._seen.iteration, self._call.iterations, took) if seconds else None
        return "" if left is None else f"About {describe_seconds(left)} left."

    def _pictures(self) -> Iterator[Any]:
        """Draw the curves as images, which viewers without widgets show."""
        from tlkit.plots.charts import learning_curves

        if any(map(isfinite, self._seen.losses)):
            yield learning_curves(self._seen, show="loss")
        if self._seen.evaluations:
            yield learning_curves(self._seen, show="accuracy")
