"""The web page as a process of its own, which can reach no other machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

from tests.commands import REPOSITORY

WAIT = 60
MAX_MEGABYTES = 0.2
SETTINGS = ("guided", 1, -3, "auto", "hard", 0.5)
UPLOAD, RADIUS, SAVE_CUTOUT = 0, 4, 9
"""Places of the page's events in its configuration."""


class Outside:
    """Stands for all other machines: the server is told to reach them by this proxy."""

    def __init__(self):
        self.requests = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.requests.append(connection.recv(200))
                connection.close()


class Server:
    """The app as a process of its own."""

    def __init__(self, workdir, folder, *, max_megabytes=MAX_MEGABYTES):
        self.outside = Outside()
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.log = folder / "log.txt"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        proxy = f"http://127.0.0.1:{self.outside.socket.getsockname()[1]}"
        environment = {
            **os.environ,
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), proxy),
            "no_proxy": "",
            "TMPDIR": str(self.temporary),
            "XLA_FLAGS": "",
        }
        command = [sys.executable, "-W", "error::DeprecationWarning:sempart_jax"]
        command += ["-m", "sempart_jax.app", "--workdir", str(workdir), "--port", str(self.port)]
        command += ["--max_megabytes", str(max_megabytes), "--verbosity", "0"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A shell starts what is in its background with SIGINT ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        wait_for(lambda: "open http" in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text

    @property
    def text(self):
        return self.log.read_text()

    @property
    def network_calls(self):
        return self.text.count("predicted ")


def wait_for(condition):
    deadline = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def file_data(path):
    """Name a file as the page does."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


async def call(client, event, data, session):
    """Touch the page; return what the server's last message says, or the status if it refuses."""
    join = {"data": data, "fn_index": event, "session_hash": session}
    answer = await client.post("/gradio_api/queue/join", json=join)
    if answer.is_error:
        return answer.status_code
    events = client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session})
    async with events as stream:
        async for line in stream.aiter_lines():
            event = json.loads(line.removeprefix("data: ")) if line else {}
            if event.get("msg") == "process_completed":
                return event
    raise AssertionError("the server has closed the stream")


async def drop(client, name, content, session=None):
    """Drop a picture; return what the page says of it, or why it does not take it."""
    answer = await client.post("/gradio_api/upload", files={"files": (name, content)})
    if answer.is_error:
        return answer.status_code
    file = file_data(answer.json()[0])
    event = await call(client, UPLOAD, [file, *SETTINGS], session or uuid.uuid4().hex)
    if isinstance(event, int):
        return event
    if not event["success"]:
        return event["output"]["error"]
    return next(text for text in map(str, event["output"]["data"]) if "role=" in text)
