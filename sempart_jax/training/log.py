"""What a run says while it trains: progress bar, numbers, TensorBoard, panels and curves."""

import contextlib
import json
import socket
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter
from tqdm import tqdm

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.host.errors import writing
from sempart_jax.report.panels import draw_curves, read_curves, save_png
from sempart_jax.runs.metrics_file import read_rows


class TrainingLog:
    """Writes the course of a run into its working directory; use as a context manager."""

    def __init__(
        self, workdir: str | Path, *, first_step: int, last_step: int, batch_size: int
    ) -> None:
        """Open the log of a run at a step.

        Args:
            workdir: directory of the run.
            first_step: steps taken already. What an interrupted run logged after them is dropped,
                for it will be logged again; at 0 everything is.
            last_step: steps at the end of the run.
            batch_size: images a step, for the progress bar's images a second.

        Raises:
            WriteError: here and in ``scalars``, ``panel`` and ``curves``, if a file cannot be
                written.
        """
        self._workdir = Path(workdir)
        self._batch_size = batch_size
        self._metrics_file = self._workdir / "metrics.jsonl"
        # A run that starts over at step 0 logs that step again as well.
        last_kept = first_step or -1
        kept = [row.line for row in read_rows(self._metrics_file) if row.step <= last_kept]
        write_atomically(self._metrics_file, "".join(f"{line}\n" for line in kept))
        with writing(self._metrics_file):
            self._metrics = self._metrics_file.open("a")
        self._board_folder = self._workdir / "tensorboard"
        with writing(self._board_folder):
            self._board_folder.mkdir(exist_ok=True)
            # Not SummaryWriter, whose thread dies on a full disk and leaves the training waiting.
            name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
            self._board = RecordWriter(str(self._board_folder / name))
        self._write_event(Event(file_version="brain.Event:2"))
        # TensorBoard hides what older files hold from this step on.
        purge = Event(step=last_kept + 1, session_log=SessionLog(status=SessionLog.START))
        self._write_event(purge)
        self._progress = tqdm(
            total=last_step * batch_size,
            initial=first_step * batch_size,
            unit="image",
            dynamic_ncols=True,
            smoothing=0.05,
            # A log file is to be read, a terminal to be watched.
            mininterval=1.0 if sys.stderr.isatty() else 30.0,
        )

    def __enter__(self) -> "TrainingLog":
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        """Close the files."""
        self._progress.close()
        # Of two errors the first is told: it is why the run ends.
        with (
            contextlib.suppress(OSError) if error else contextlib.nullcontext(),
            writing(self._board_folder),
        ):
            self._board.close()
        with (
            contextlib.suppress(OSError) if error else contextlib.nullcontext(),
            writing(self._metrics_file),
        ):
            self._metrics.close()

    def advance(self) -> None:
        """Move the progress bar by one step."""
        self._progress.update(self._batch_size)

    def scalars(self, step: int, values: Mapping[str, float], prefix: str = "train") -> None:
        """Write numbers of a step."""
        row: dict[str, Any] = {"step": step}
        for name, value in values.items():
            row[f"{prefix}/{name}"] = value
            self._write_event(Event(step=step, summary=summary.scalar(f"{prefix}/{name}", value)))
        with writing(self._metrics_file):
            self._metrics.write(json.dumps(row) + "\n")
            self._metrics.flush()
        if "total" in values:
            self._progress.set_postfix(loss=f"{values['total']:.4f}", refresh=False)

    def panel(self, step: int, picture: np.ndarray, *, once: str = "") -> None:
        """Write a picture of a step to ``panels/`` and to TensorBoard.

        Args:
            step: number of the step.
            picture: RGB uint8 ``[H, W, 3]``.
            once: name of a picture that a run has one of; empty: there is one of each such step.
        """
        save_png(picture, self._workdir / "panels" / f"{once or f'step_{step:07d}'}.png")
        image: Summary = summary.image(once or "panel", picture, dataformats="HWC")
        self._write_event(Event(step=step, summary=image))

    def curves(self) -> None:
        """Draw all numbers so far to ``curves.png``."""
        save_png(draw_curves(read_curves(self._metrics_file)), self._workdir / "curves.png")

    def _write_event(self, event: Event) -> None:
        event.wall_time = time.time()
        with writing(self._board_folder):
            self._board.write(event.SerializeToString())
            self._board.flush()

    def say(self, message: str) -> None:
        """Print a line above the progress bar."""
        self._progress.write(message)
