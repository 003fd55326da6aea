import importlib.util
import os
import signal
import socket
import subprocess
import sys

import pytest

from sempart_jax.web.server import address, attachment, listen, private_folder, require_gradio
from tests.commands import REPOSITORY

# A page that is asked for once, and interrupts its own server, whose second signal gets lost.
INTERRUPTED = """
import os, signal, sys, threading, urllib.request
from sempart_jax.web.server import address, listen, private_folder, serve

number = int(sys.argv[1])
signal.raise_signal = lambda number: None

def visit(url):
    urllib.request.urlopen(url, timeout=60).close()
    os.kill(os.getpid(), number)

with private_folder(), listen("127.0.0.1", 0) as listener:
    url = address("127.0.0.1", listener)
    threading.Thread(target=visit, args=[url], daemon=True).start()
    try:
        serve(None, listener, host="127.0.0.1", examples=[], max_megabytes=1)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sempart_jax\[app\]'"):
        require_gradio()


def test_any_port_is_found():
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        assert address("127.0.0.1", listener) == f"http://127.0.0.1:{port}"
        with socket.create_connection((host, port), timeout=60):
            pass


def test_the_next_free_port_is_taken():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] <= port + 50


def test_no_free_port_is_told(monkeypatch):
    def bind(self, where):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket.socket, "bind", bind, raising=False)
    with pytest.raises(ValueError, match=r"ports 65530 to 65535: Address already in use"):
        listen("127.0.0.1", 65530)


def test_a_host_that_is_none_is_told():
    with pytest.raises(ValueError, match=r"no host 'no such host'"):
        listen("no such host", 0)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.png", "attachment; filename*=UTF-8''a.png"),
        ('a"\r\nb.png', "attachment; filename*=UTF-8''a%22%0D%0Ab.png"),
        ("größe 1.png", "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe%201.png"),
    ],
)
def test_no_name_breaks_out_of_its_header(name, header):
    assert attachment(name) == header


def test_the_private_folder_goes_with_all_that_is_in_it(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    before = signal.getsignal(signal.SIGTERM)
    with private_folder() as folder:
        (folder / "uploads").mkdir()
        (folder / "uploads" / "a.png").write_bytes(b"picture")
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder / "uploads")
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ended_it_is_told_where_the_signal_that_uvicorn_raises_gets_lost(number):
    finished = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(int(number))],
        cwd=REPOSITORY,
        env={key: value for key, value in os.environ.items() if "proxy" not in key.lower()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 128 + number, finished.stderr
