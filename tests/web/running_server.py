"""The web page as a process of its own, which can reach no other machine."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from tests.commands import REPOSITORY

WAIT = 60
MAX_MEGABYTES = 0.2


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
        proxy = f"http://127.0.0.1:{self.outside.socket.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy")
        environment = {
            **{key: value for key, value in os.environ.items() if "proxy" not in key.lower()},
            **dict.fromkeys([*names, *map(str.upper, names)], proxy),
            "NO_PROXY": "127.0.0.1,localhost",
            "TMPDIR": str(self.temporary),
            "XLA_FLAGS": "",
        }
        command = [sys.executable, "-W", "error::DeprecationWarning:sempart_jax"]
        command += ["-m", "sempart_jax.app", "--workdir", str(workdir), "--port", "0"]
        command += ["--max_megabytes", str(max_megabytes), "--verbosity", "0"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        wait_for(lambda: "open http" in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text
        self.address = self.text.split("open ")[1].split()[0]

    @property
    def text(self):
        return self.log.read_text()

    @property
    def network_calls(self):
        return self.text.count("predicted ")

    def get(self, path, data=None, **headers):
        request = urllib.request.Request(self.address + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=WAIT) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def wait_for(condition):
    deadline = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found
