"""A download that breaks off: nothing half is ever taken for weights, and what is there is kept."""

import contextlib
import http.server
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy

from tests.commands import REPOSITORY
from tests.two_tricks.dino_reference import seeded_state_dict

pytestmark = pytest.mark.slow

PROGRAM = """
from sempart_jax.networks.pretrained import load_backbone_params
try:
    load_backbone_params("dino_vits16")
except (ValueError, FileNotFoundError) as error:
    print(type(error).__name__, error)
"""
ETAG = "5" * 40


class FakeHub(http.server.ThreadingHTTPServer):
    """Gives one file; breaks off in the middle of it until it is mended."""

    def __init__(self, content):
        self.content, self.broken, self.ranges = content, True, []
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, *, body):
        hub, start, status = self.server, 0, 200
        asked = self.headers.get("Range")
        if asked:
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
        size = len(hub.content)
        self.send_response(status)
        self.send_header("ETag", f'"{ETAG}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(size - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if body:
            hub.ranges.append(start)
            end = size // 2 if hub.broken else size
            with contextlib.suppress(OSError):
                self.wfile.write(hub.content[start:end])

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body="resolve" in self.path)


@pytest.mark.timeout(300)
def test_a_broken_download_is_no_weight_file_and_goes_on(tmp_path):
    state = seeded_state_dict(patch_size=4, width=8, depth=1, grid=2)
    # Larger than the pieces of ten megabytes in which the hub's library writes.
    state["filler"] = np.zeros(6_000_000, np.float32)
    hub = FakeHub(safetensors.numpy.save(state))
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "XLA_FLAGS": "",
    }

    def load():
        return subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    first = load()
    assert first.stdout.startswith("DownloadError backbone 'dino_vits16': model.safetensors")
    assert list(tmp_path.rglob("model.safetensors")) == []
    hub.broken = False
    second = load()
    # The file is whole, and then found to be of another backbone.
    (file,) = tmp_path.rglob("model.safetensors")
    loaded = safetensors.numpy.load_file(file)
    np.testing.assert_array_equal(loaded["norm.weight"], state["norm.weight"])
    assert second.stdout.startswith("ValueError ")
    assert str(file.name) in second.stdout
    assert max(hub.ranges) > 0, "what had been received was not kept"
    print(f"download of {len(hub.content)} bytes, asked for from bytes {hub.ranges}")
    hub.shutdown()
    hub.server_close()
