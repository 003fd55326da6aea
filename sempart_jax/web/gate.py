"""What stands between the network and gradio: few addresses, and nothing from elsewhere.

Gradio serves more than this page needs, among it addresses that make the server fetch others. The
gate lets through what the page asks for, and tells browsers to load nothing from anywhere else. Nor
may a request name a file to be read but one that was uploaded, nor uploads fill the disk.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from sempart_jax.web.bodies import BoundedBody, Message, Receive, UnfinishedBodyError
from sempart_jax.web.uploads import UploadFolder

Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
_FOLDERS = ("/assets/", "/static/", "/svelte/", "/download/")
_CALLS = (
    "app_id",
    "cancel",
    "heartbeat/",
    "info",
    "queue/data",
    "queue/join",
    "reset",
    "startup-events",
    "theme.css",
    "upload",
)

_UPLOAD = "/gradio_api/upload"
_JOIN = "/gradio_api/queue/join"
_LONGEST_CALL = 1024**2
"""Bytes of a request that is no upload."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Gate:
    """An ASGI application around another."""

    def __init__(
        self, application: Application, *, uploads: UploadFolder, hosts: Sequence[str] = ()
    ) -> None:
        """Choose what is behind the gate.

        Args:
            application: what answers.
            uploads: folder of uploaded files.
            hosts: names by which the server may be addressed, against pages elsewhere that point
                a name of theirs at this machine; any if empty.
        """
        self._application = application
        self._uploads = uploads
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http" or not is_served(scope["path"]):
            await _refuse(scope, send, 404, b"There is nothing here.")
            return
        if self._hosts and host_name(scope["headers"]) not in self._hosts:
            await _refuse(scope, send, 421, b"This server is not addressed by that name.")
            return

        # Beside it a length means nothing: the server reads to the last chunk.
        if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
            await _refuse(scope, send, 411, b"A request has to tell its length.")
            return
        length = content_length(scope["headers"])
        if scope["path"].rstrip("/") != _UPLOAD:
            longest = _LONGEST_CALL if length else 0
            await self._pass(scope, BoundedBody(receive, longest=longest), send)
            return
        refusal = self._uploads.refusal(length)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
            return
        async with self._uploads.turns:
            self._uploads.make_room()
            await self._pass(scope, BoundedBody(receive, longest=length or 0), send)

    async def _pass(self, scope: Message, body: BoundedBody, send: Send) -> None:
        """Let a request through, as long as its body is in order."""
        answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if body.unfinished and not answered:
                # It would call the end of the body an error of its own.
                return
            if message["type"] == "http.response.start":
                answered = True
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        with contextlib.suppress(UnfinishedBodyError):
            receive: Receive = body.receive
            if scope["path"].startswith(_JOIN):
                content = await _read(receive)
                if not names_only_files_in(self._uploads.path, content):
                    await _refuse(scope, send, 403, b"Only uploaded files are read.")
                    return
                receive = _told_again(content, receive)
            await self._application(scope, receive, send_with_headers)
        if body.refusal is not None and not answered:
            await _refuse(scope, send, *body.refusal, close=True)


def is_served(path: str) -> bool:
    """Tell whether the page needs an address.

    Args:
        path: decoded path of a request.
    """
    if path in _PAGES or path.startswith(_FOLDERS):
        return True
    call = path.removeprefix("/gradio_api/")
    if call == path:
        return False
    # A file has a path of this machine, which gradio checks; anything else has a scheme.
    return call.startswith((*_CALLS, "file=/")) or (
        call.startswith("file=") and call[6:8] in (":/", ":\\")
    )


def host_name(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Take the name of the server, without its port, from a request's headers; empty if none."""
    host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def content_length(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """Take the length of a request's body from its headers; ``None`` if they do not tell it."""
    text = next((value for name, value in headers if name == b"content-length"), b"")
    return int(text[:18]) if text.isdigit() else None


def names_only_files_in(folder: Path, body: bytes) -> bool:
    """Tell whether all files that a request names lie in a folder.

    Gradio looks at this too, but only on servers that it has started itself, and fetches addresses.

    Args:
        folder: absolute path without links.
        body: JSON, where a file is an object with a ``path``.

    Returns:
        Also false if it is no JSON.
    """
    try:
        pending = [json.loads(body)]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                path = value.get("path", str(folder))
                if not isinstance(path, str) or not Path(path).resolve().is_relative_to(folder):
                    return False
                pending.extend(value.values())
            elif isinstance(value, list):
                pending.extend(value)
    # Among them what no path may hold, and nesting without end.
    except (ValueError, OSError, RecursionError):
        return False
    return True


async def _read(receive: Receive) -> bytes:
    """Read the body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _told_again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read to the next reader, and after it what else is to come."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


async def _refuse(
    scope: Message, send: Send, status: int, reason: bytes, *, close: bool = False
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(reason)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason})
