"""Numbers and pictures of a run for TensorBoard, written at once."""

import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from sempart_jax.write_errors import writing


class EventFile:
    """A new file of events in a folder.

    tensorboardX's own ``SummaryWriter`` writes from a thread. When the disk is full, that thread
    dies, its queue fills up, and the training waits for it for ever. Here, whoever asks gets the
    error.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        """Start a file.

        Args:
            folder: made if absent.
            purge_step: step from which TensorBoard hides what older files hold.

        Raises:
            WriteError: here and in all methods, if the file cannot be written.
        """
        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"))
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=purge_step, session_log=start))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a number of a step."""
        self._add(summary.scalar(name, value), step)

    def add_image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Write a picture of a step, RGB uint8 ``[H, W, 3]``."""
        self._add(summary.image(name, picture, dataformats="HWC"), step)

    def flush(self) -> None:
        """Give what was written to the operating system."""
        with writing(self._folder):
            self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        with writing(self._folder):
            self._writer.close()

    def _add(self, values: Summary, step: int) -> None:
        with writing(self._folder):
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=values))
