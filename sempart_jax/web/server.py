"""Serve the page on this machine: sockets, temporary files, and a quiet end."""

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8

from sempart_jax.segmentation.drawing import eight_bits
from sempart_jax.web.finishing import cut_out, encode_png
from sempart_jax.web.gate import Gate
from sempart_jax.web.sessions import MEGABYTE, Predict, SessionStore
from sempart_jax.web.uploads import UploadFolder

NEIGHBOURING_PORTS = 50
"""Ports after the wanted one that are tried where it is taken."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECONDS_TO_FINISH = 2
_DOWNLOADS_AT_A_TIME = 2


def require_gradio() -> None:
    """Check that the extra of the page is installed.

    Raises:
        ModuleNotFoundError: if not, with the command that installs it.
    """
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the web page needs the extra [app] ({error}): pip install 'sempart_jax[app]'"
        ) from error


def listen(host: str, port: int) -> socket.socket:
    """Open a socket, at the next free port where the wanted one is taken.

    Args:
        host: name or address of this machine.
        port: port, or 0 for any.

    Raises:
        ValueError: if the host is none of this machine, or no port is free.
    """
    try:
        family, kind, _, _, _ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"there is no host {host!r}: {error.strerror or error}") from error
    last = min(port + NEIGHBOURING_PORTS, 65535) if port else 0
    reason = ""
    for candidate in range(port, last + 1):
        listener = socket.socket(family, kind)
        if os.name == "posix":
            # Without it a port that was just left counts as taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
        else:
            return listener
    raise ValueError(f"cannot serve on {host}, ports {port} to {last}: {reason}")


def address(host: str, listener: socket.socket) -> str:
    """Write the address at which a browser finds a socket."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Give gradio a folder of its own that goes when the server does, and silence it.

    To be entered before gradio is imported. A process that is terminated removes the folder too.
    """
    with tempfile.TemporaryDirectory(prefix="sempart_jax_app_") as name:
        folder = Path(name)
        os.environ |= {
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_RUN_HISTORY": "False",
            "GRADIO_MCP_SERVER": "False",
            "GRADIO_SSR_MODE": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
        }
        before = signal.signal(signal.SIGTERM, _leave)
        try:
            yield folder
        finally:
            signal.signal(signal.SIGTERM, before)


def make_application(
    predict: Predict,
    *,
    examples: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    max_megabytes: float,
    hosts: Sequence[str] = (),
) -> Any:
    """Put page and downloads behind the gate; within :func:`private_folder`.

    Args:
        predict: the network.
        examples: see ``build_page``.
        max_megabytes: see ``build_page``.
        hosts: see :class:`Gate`.

    Returns:
        An ASGI application.
    """
    from fastapi import FastAPI, HTTPException, Response
    from gradio import mount_gradio_app

    from sempart_jax.web.layout import theme
    from sempart_jax.web.page import build_page
    from sempart_jax.web.stylesheet import STYLESHEET

    store = SessionStore()
    page = build_page(predict, store, examples=examples, max_megabytes=max_megabytes)
    # Else gradio takes any path for one of an uploaded file.
    page.has_launched = True
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    encoders = threading.Semaphore(_DOWNLOADS_AT_A_TIME)

    def download(token: str, kind: str) -> Response:
        # A large picture takes half a gigabyte while it is encoded.
        with encoders:
            return encode_download(token, kind)

    def encode_download(token: str, kind: str) -> Response:
        session = store.get(token)
        if session is None or kind not in ("cutout", "mask"):
            raise HTTPException(404, "This picture is no longer kept: drop it again.")
        finished = session.finished
        pixels = (
            cut_out(session.image, finished.refined, finished.threshold)
            if kind == "cutout"
            else eight_bits(finished.refined)
        )
        return Response(
            encode_png(pixels),
            media_type="image/png",
            headers={
                "content-disposition": attachment(f"{Path(session.name).stem}_{kind}.png"),
                "cache-control": "no-store",
            },
        )

    application.add_api_route("/download/{token}/{kind}", download, response_class=Response)
    mount_gradio_app(
        application,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=True,
        max_file_size=int(max_megabytes * MEGABYTE),
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=STYLESHEET,
    )
    uploads = UploadFolder(Path(os.environ["GRADIO_TEMP_DIR"]), int(max_megabytes * MEGABYTE))
    return Gate(application, uploads=uploads, hosts=hosts)


def attachment(name: str) -> str:
    """Write the header that makes a browser save an answer under a name (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def serve(
    predict: Predict,
    listener: socket.socket,
    *,
    host: str,
    examples: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    max_megabytes: float,
) -> None:
    """Serve the page until the process is interrupted or terminated; see :func:`private_folder`.

    Args:
        predict: the network; at most one call runs at a time.
        listener: see :func:`listen`.
        host: what ``listener`` was opened with.
        examples: pictures for those who have none at hand.
        max_megabytes: size above which a file is refused, in units of 1024² bytes.

    Raises:
        KeyboardInterrupt: after SIGINT (Ctrl-C), when all requests are finished.
        SystemExit: after SIGTERM, with status 143.
    """
    import uvicorn

    class Server(uvicorn.Server):
        ended_by: int | None = None

        def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
            self.ended_by = sig
            super().handle_exit(sig, frame)

    application = make_application(
        predict,
        examples=examples,
        max_megabytes=max_megabytes,
        hosts=_LOOPBACK if host in _LOOPBACK else (),
    )
    settings = uvicorn.Config(
        application,
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    server = Server(settings)
    # At the end the pages that are still open are cut off, which it would tell at length.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
    print(f"open {address(host, listener)} in a browser; Ctrl-C ends it", flush=True)
    server.run(sockets=[listener])
    # Uvicorn answers by raising the signal anew at its end, which nobody hears where a shell has
    # started this process in its background, and so told it to ignore SIGINT.
    if server.ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if server.ended_by == signal.SIGTERM:
        _leave(server.ended_by, None)


def _leave(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)
