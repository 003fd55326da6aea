"""Numbers and pictures of a run for TensorBoard, written at once."""

import socket
import struct
import time
from pathlib import Path

import numpy as np

from sempart_jax.host.hidden_module import hidden
from sempart_jax.host.write_errors import writing

# tensorboardX imports PyTorch where there is one: a second and 180 MB for what is not used here.
with hidden("torch"):
    from tensorboardX import summary
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import masked_crc32c


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
        now = time.time()
        self._path = folder / f"events.out.tfevents.{now:.0f}.{socket.gethostname()}"
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=now, step=purge_step, session_log=start))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a number of a step."""
        self._add(summary.scalar(name, value), step)

    def add_image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Write a picture of a step, RGB uint8 ``[H, W, 3]``."""
        self._add(summary.image(name, picture, dataformats="HWC"), step)

    def close(self) -> None:
        """Close the file."""
        with writing(self._path):
            self._file.close()

    def _add(self, values: Summary, step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=values))

    def _write(self, event: Event) -> None:
        # A record is its length, the checksum of that, its bytes, and the checksum of those.
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
        with writing(self._path):
            self._file.write(length + checksums[0] + data + checksums[1])
            self._file.flush()
