"""The body of a request: no longer than it may be, and no slower.

Each upload has one of a few turns, which a visitor who sends nothing would hold for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

GRACE_SECONDS = 10.0
"""How long a visitor may send nothing at first."""
SLOWEST_BYTES_PER_SECOND = 64 * 1024
"""Of all that has come, less the seconds of grace."""


class UnfinishedBodyError(Exception):
    """A body was cut off, or broke off by itself."""


class BoundedBody:
    """Gives the body of a request on, while it keeps within a length and above a speed.

    Attributes:
        refusal: HTTP status and reason if it was cut off.
        broken_off: whether the visitor has left before its end.
    """

    def __init__(self, receive: Receive, *, longest: int) -> None:
        """Start no clock yet; the first call of :meth:`receive` does.

        Args:
            receive: gives the messages of the request.
            longest: bytes that the body may have; 0 if the request announces none.
        """
        self.refusal: tuple[int, bytes] | None = None
        self.broken_off = False
        self._receive = receive
        self._longest = longest
        self._received = 0
        self._started: float | None = None
        self._whole = False

    @property
    def unfinished(self) -> bool:
        """Whether it was cut off or broke off."""
        return self.broken_off or self.refusal is not None

    async def receive(self) -> Message:
        """Give the next message; after the end of the body whatever comes, without a limit.

        Raises:
            UnfinishedBodyError: if the body is too long or too slow, or the visitor has left.
        """
        if self._whole:
            return await self._receive()
        if not self.unfinished:
            message = await self._next_part()
            if not self.unfinished:
                return message
        raise UnfinishedBodyError

    async def _next_part(self) -> Message:
        now = asyncio.get_running_loop().time()
        self._started = now if self._started is None else self._started
        earned = self._received / SLOWEST_BYTES_PER_SECOND
        message: Message = {}
        try:
            async with asyncio.timeout_at(self._started + GRACE_SECONDS + earned):
                message = await self._receive()
        except TimeoutError:
            self.refusal = 408, b"The request took too long to arrive."
            return message
        if message["type"] != "http.request":
            # Of a request without a body it is no more than the end of the visit.
            self.broken_off = self._longest > 0
            return message
        self._received += len(message.get("body", b""))
        if self._received > self._longest:
            self.refusal = 413, b"The request is longer than it may be."
        self._whole = not message.get("more_body", False)
        return message
