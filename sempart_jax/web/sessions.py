"""What the server remembers of each visitor: one picture and its mask, within bounds."""

import collections
import dataclasses
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Float, UInt8

from sempart_jax.data.images import UnreadableImageError, decode_image
from sempart_jax.web.finishing import Finish, Finished, finish_mask

Predict = Callable[[np.ndarray], np.ndarray]
"""RGB uint8 ``[H, W, 3]`` to a soft mask, float32 ``[H, W]`` in [0, 1]."""


MEGABYTE = 1024**2
"""Bytes of a megabyte as browsers count it."""


@dataclasses.dataclass(eq=False)
class Session:
    """A visitor's picture. The network has seen it once; its mask is finished again at will.

    Attributes:
        name: what the visitor calls the picture's file.
        image: RGB.
        mask: what the network predicts, in [0, 1].
        network_seconds: what the prediction took.
        finished: as it was finished last, which is what is downloaded.
        finish_seconds: what that took.
    """

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    mask: Float[np.ndarray, "H W"]
    network_seconds: float
    finished: Finished
    finish_seconds: float

    def finish(self, finish: Finish) -> None:
        """Finish the mask anew.

        Raises:
            ValueError: if a name is unknown or a number out of range.
        """
        started = time.perf_counter()
        self.finished = finish_mask(self.image, self.mask, finish)
        self.finish_seconds = time.perf_counter() - started


def open_session(
    name: str, image: UInt8[np.ndarray, "H W 3"], predict: Predict, finish: Finish
) -> Session:
    """Let the network see a picture.

    Args:
        name: what its file is called.
        image: RGB.
        predict: the network.
        finish: what is done to its mask.
    """
    started = time.perf_counter()
    mask = predict(image)
    predicted = time.perf_counter()
    logging.info("predicted %s, %dx%d pixels", name, image.shape[1], image.shape[0])
    finished = finish_mask(image, mask, finish)
    return Session(
        name, image, mask, predicted - started, finished, time.perf_counter() - predicted
    )


def read_upload(path: Path, max_megabytes: float) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture that somebody has sent.

    Args:
        path: where it lies; only the name is ever told to anybody.
        max_megabytes: size above which the file is refused, in units of 1024² bytes.

    Raises:
        UnreadableImageError: if it is no image, damaged, gone, or larger than this or the limit of
            pixels of ``sempart_jax.data.images``.
    """
    if not path.is_file():
        raise UnreadableImageError(path.name, "it is no longer kept, drop it again")
    size = path.stat().st_size / MEGABYTE
    if size > max_megabytes:
        reason = f"its {size:.1f} MB are more than the limit of {max_megabytes:g} MB"
        raise UnreadableImageError(path.name, reason)
    return decode_image(path.read_bytes(), path.name)


class SessionStore:
    """The sessions of the last visitors. Those unused for longest make room for new ones.

    All methods may be called from several threads.
    """

    def __init__(self, *, capacity: int = 16, megapixels: float = 200) -> None:
        """Make an empty store.

        Args:
            capacity: sessions that are kept.
            megapixels: pixels of all their pictures together, in millions; a pixel takes up to 15
                bytes. The newest session is kept whatever its size.
        """
        self._capacity, self._pixels = capacity, megapixels * 1e6
        self._sessions: collections.OrderedDict[str, Session] = collections.OrderedDict()
        self._lock = threading.Lock()

    def add(self, session: Session) -> str:
        """Keep a session.

        Returns:
            The token that gives it back, which nobody can guess.
        """
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._sessions[token] = session
            while len(self._sessions) > 1 and (
                len(self._sessions) > self._capacity
                or sum(other.mask.size for other in self._sessions.values()) > self._pixels
            ):
                self._sessions.popitem(last=False)
        return token

    def get(self, token: str | None) -> Session | None:
        """Return a session, or ``None`` if it is kept no longer."""
        with self._lock:
            if token is None or token not in self._sessions:
                return None
            self._sessions.move_to_end(token)
            return self._sessions[token]

    def discard(self, token: str | None) -> None:
        """Forget a session, if there is one."""
        with self._lock:
            if token is not None:
                self._sessions.pop(token, None)
