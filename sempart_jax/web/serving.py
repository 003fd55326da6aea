"""Serve the page on this machine by gradio, and refuse what gradio would do for strangers."""

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import numpy as np
from fastapi import Depends, HTTPException, Request
from jaxtyping import UInt8
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sempart_jax.web.page import Predict, build_page
from sempart_jax.web.stylesheet import STYLESHEET

_LOOPBACK = ("127.0.0.1", "localhost")
_FORM_BYTES = 64 * 1024
"""What a form adds to the file in it."""
_VISITORS = 8
"""Whose pictures are kept; one of 89 megapixels takes 620 MB."""
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "frame-ancestors 'none'"
)


class _SelfContained:
    """Tells browsers to load nothing from elsewhere, as the page of gradio would."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["content-security-policy"] = _POLICY
            await send(message)

        await self._app(scope, receive, send_with_policy)


async def _refuse_strangers(request: Request) -> None:
    """Refuse pages from elsewhere, and visitors for whom gradio would fetch from elsewhere."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "Another site may not use this page.")
    path = request.url.path
    if path.startswith("/gradio_api/file=http"):
        raise HTTPException(403, "Only uploaded files are read.")
    if request.method == "POST" and not path.startswith("/gradio_api/upload"):
        try:
            json.loads(await request.body() or b"{}", object_hook=_check_path)
        except ValueError as error:
            raise HTTPException(403, "Only uploaded files are read.") from error


def _check_path(value: dict[str, Any]) -> None:
    if str(value.get("path")).startswith("http"):
        raise ValueError


def serve(
    predict: Predict,
    *,
    invert: str,
    host: str,
    port: int | None,
    examples: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    max_megabytes: float,
) -> None:
    """Serve the page until an exception, such as that of Ctrl-C, ends it.

    Args:
        predict: see ``build_page``.
        invert: see ``build_page``.
        host: name or IPv4 address of this machine; if it is loopback, no other name is answered.
        port: ``None`` for the first free one from 7860.
        examples: see ``build_page``.
        max_megabytes: size above which a file is refused, in units of 1024² bytes.

    Raises:
        OSError: if the host is none of this machine, or the port is taken.
    """
    # Gradio would try a host that is none for minutes.
    with socket.create_server((host, port or 0)):
        pass
    # It calls its own server, which a proxy would not find.
    direct = (os.environ.get("no_proxy", os.environ.get("NO_PROXY")), *_LOOPBACK, host)
    os.environ["no_proxy"] = ",".join(filter(None, direct))
    page = build_page(predict, invert=invert, examples=examples, max_megabytes=max_megabytes)
    largest = int(max_megabytes * 1024**2)
    hosts = _LOOPBACK if host in _LOOPBACK else ("*",)
    try:
        page.launch(
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            server_name=host,
            server_port=port,
            max_file_size=largest,
            allowed_paths=[],
            state_session_capacity=_VISITORS,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            css=STYLESHEET,
            # The fonts of the visitor's system: none are loaded.
            theme=gr.themes.Default(
                primary_hue="teal",
                neutral_hue="slate",
                font=["system-ui", "sans-serif"],
                font_mono=["ui-monospace", "monospace"],
            ),
            app_kwargs={
                "max_body_size": largest + _FORM_BYTES,
                "dependencies": [Depends(_refuse_strangers)],
                "middleware": [
                    Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
                    Middleware(_SelfContained),
                ],
            },
        )
        print(f"open {page.local_url} in a browser; Ctrl-C ends it", flush=True)
        while True:
            time.sleep(60)
    finally:
        page.close(verbose=False)
