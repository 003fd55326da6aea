"""Hostile pictures and many visitors at once; skips where gradio is missing."""

import asyncio
import collections
import contextlib
import importlib.util
import json
import re
import socket
import uuid
from pathlib import Path

import pytest

from sempart_jax.data.synthetic import write_scenes
from tests.commands import run_train
from tests.faults.damaged_images import damaged, encode, scene, strips, unusual
from tests.faults.peak_memory import needs_linux, peak_kilobytes
from tests.web.running_server import Server

pytestmark = [
    needs_linux,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None, reason="gradio is not installed"
    ),
]

VISITORS = 200
MAX_MEGABYTES = 4
SETTINGS = ("guided", 9, -3, "auto", "hard", 0.5)
MORE_MEGABYTES = 1000
REFUSALS = (400, 411, 413, 429, 503)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visitors")
    write_scenes(folder / "scenes", 8, 40, seed=0)
    finished = run_train(folder / "run", folder / "scenes/images", steps=1, config="baseline")
    assert finished.returncode == 0, finished.stderr
    running = Server(folder / "run", folder, max_megabytes=MAX_MEGABYTES)
    yield running
    running.process.kill()
    running.process.wait()


def peak_megabytes(server):
    return peak_kilobytes(server.process.pid) / 1024


async def visit(client, name, content):
    """Drop a picture as the page does.

    Returns:
        What the page says of it, or ``refused`` with the status of the answer.
    """
    answer = await client.post("/gradio_api/upload", files={"files": (name, content)})
    if answer.status_code in REFUSALS:
        return f"refused {answer.status_code}"
    answer.raise_for_status()
    (path,) = answer.json()
    session = uuid.uuid4().hex
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    join = {"data": [file, None, *SETTINGS], "fn_index": 0, "session_hash": session}
    answer = await client.post("/gradio_api/queue/join", json=join)
    if answer.status_code in REFUSALS:
        return f"refused {answer.status_code}"
    answer.raise_for_status()
    events = client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session})
    async with events as stream:
        async for line in stream.aiter_lines():
            event = json.loads(line.removeprefix("data: ")) if line else {}
            if event.get("msg") == "process_completed":
                if "Invalid file type" in str(event["output"].get("error")):
                    return "refused: no name of a picture"
                assert event["success"], event
                return next(text for text in map(str, event["output"]["data"]) if "role=" in text)
    raise AssertionError("the server has closed the stream")


def visit_all(server, pictures, *, at_once):
    """Drop pictures, some at once; return what came of each, exceptions too."""
    httpx = pytest.importorskip("httpx")

    async def run():
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        gate = asyncio.Semaphore(at_once)
        async with httpx.AsyncClient(
            base_url=server.address, timeout=300, limits=limits, trust_env=False
        ) as client:

            async def one(name, content):
                async with gate:
                    return await visit(client, name, content)

            visits = [one(*picture) for picture in pictures]
            return await asyncio.gather(*visits, return_exceptions=True)

    return asyncio.run(run())


def test_hostile_pictures_are_named_and_the_others_are_cut_out(server):
    good, bad = unusual() | strips(), damaged()
    (first,) = visit_all(server, [("photo.png", encode(scene()))], at_once=1)
    assert "56 × 48 pixels" in first
    before = peak_megabytes(server)
    pictures = {**good, **bad}
    told = dict(zip(pictures, visit_all(server, pictures.items(), at_once=1), strict=True))
    for name, text in told.items():
        assert isinstance(text, str), (name, text)
        assert text.count(name) == 1, text
        assert ("is no picture that can be read" in text) == (name in bad), text
        assert ("pixels · " in text) == (name in good), text
    peak = peak_megabytes(server)
    print(f"page: {len(good)} cut out, {len(bad)} named, peak {before:.0f} MB, then {peak:.0f} MB")
    assert peak < before + MORE_MEGABYTES
    assert "Traceback" not in server.text


def test_hostile_names_stay_in_the_folder_of_uploads(server):
    before = {path for path in server.temporary.parent.rglob("*") if path.name != "log.txt"}
    names = ["../../x.png", "/tmp/x.png", "..\\..\\x.png", "C:\\x.png", "a\nb.png", "x" * 400]
    names += ["a\0b.png", "'\"<b>.png", "…/../ü.png", "..", "CON.png"]
    pictures = [(name, encode(scene(seed))) for seed, name in enumerate(names)]
    for name, text in zip(names, visit_all(server, pictures, at_once=1), strict=True):
        assert isinstance(text, str), (name, text)
        assert "<b>" not in text
    written = {path for path in server.temporary.parent.rglob("*") if path.is_file()} - before
    folders = list(server.temporary.glob("sempart_jax_app_*"))
    assert len(folders) == 1
    stray = [path for path in written if not path.is_relative_to(folders[0])]
    assert [path.name for path in stray if path.name != "log.txt"] == []


def test_uploads_are_bounded(server):
    httpx = pytest.importorskip("httpx")
    picture = encode(scene())
    large = ("large.png", bytes(MAX_MEGABYTES * 2**20 + 1))
    assert visit_all(server, [large], at_once=1) == ["refused 413"]
    with httpx.Client(base_url=server.address, timeout=60, trust_env=False) as client:
        many = [("files", (f"{n}.png", bytes(2**20))) for n in range(6)]
        assert client.post("/gradio_api/upload", files=many).status_code == 413
        endless = client.post("/gradio_api/upload", content=iter([picture] * 9))
        assert endless.status_code == 411
    # What visitors leave does not pile up, however many come.
    noise = [(f"{n}.png", bytes([n]) * (MAX_MEGABYTES * 2**20 - 9)) for n in range(30)]
    assert all(isinstance(text, str) for text in visit_all(server, noise, at_once=2))
    kept = [path.stat().st_size for path in server.temporary.rglob("*") if path.is_file()]
    sent = sum(len(content) for _, content in noise)
    print(f"uploads: {sent / 2**20:.0f} MB sent, {sum(kept) / 2**20:.0f} MB kept")
    assert sum(kept) < 17 * MAX_MEGABYTES * 2**20


def connection_to(server):
    host, port = server.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def raw_upload(*headers):
    lines = ["POST /gradio_api/upload HTTP/1.1", "Host: 127.0.0.1"]
    lines += ["Content-Type: multipart/form-data; boundary=b", *headers, "", ""]
    return "\r\n".join(lines).encode()


def kept_bytes(server):
    return sum(path.stat().st_size for path in server.temporary.rglob("*") if path.is_file())


def test_a_length_beside_chunks_lets_nothing_through(server):
    before = kept_bytes(server)
    with connection_to(server) as connection:
        connection.sendall(raw_upload("Content-Length: 10", "Transfer-Encoding: chunked"))
        name = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%d.png"\r\n\r\n'
        with contextlib.suppress(ConnectionError):
            for number in range(5):
                part = name % number + bytes(3 * 2**20) + b"\r\n"
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        assert connection.recv(12) == b"HTTP/1.1 411"
    assert kept_bytes(server) == before


def test_visitors_who_send_nothing_or_leave_keep_nobody_from_sending(server):
    log = len(server.text)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connection_to(server)) for _ in range(8)]
        for connection in idle:
            connection.sendall(raw_upload("Content-Length: 1000"))
        with connection_to(server) as leaving:
            leaving.sendall(raw_upload("Content-Length: 1000") + b"--b")
        (told,) = visit_all(server, [("photo.png", encode(scene()))], at_once=1)
        assert "56 × 48 pixels" in told
        assert [connection.recv(12) for connection in idle] == [b"HTTP/1.1 408"] * 8
    assert server.text[log:].count("Traceback") == 0


def test_two_hundred_visitors_at_once_are_served_or_refused(server):
    before, log = peak_megabytes(server), len(server.text)
    pictures = [(f"visitor_{number}.png", encode(scene(number))) for number in range(VISITORS)]
    told = visit_all(server, pictures, at_once=VISITORS)
    kinds = collections.Counter(
        ("refused" if text.startswith("refused") else "finished")
        if isinstance(text, str)
        else repr(text)
        for text in told
    )
    print(f"visitors: {dict(kinds)}, peak {before:.0f} MB, then {peak_megabytes(server):.0f} MB")
    assert set(kinds) <= {"finished", "refused"}
    assert kinds["finished"] > 0
    for (name, _), text in zip(pictures, told, strict=True):
        assert text.startswith("refused") or name in text
    assert server.process.poll() is None
    (after,) = visit_all(server, [("after.png", encode(scene()))], at_once=1)
    assert "after.png" in after
    assert "Traceback" not in server.text[log:]
    assert peak_megabytes(server) < before + MORE_MEGABYTES


def test_nothing_listens_but_on_loopback(server):
    sockets = {
        re.search(r"\d+", str(link.readlink()))[0]
        for link in Path(f"/proc/{server.process.pid}/fd").iterdir()
        if str(link.readlink()).startswith("socket:")
    }
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                listening.append(fields[1].split(":")[0])
    # 127.0.0.1 as the kernel writes it.
    assert listening == ["0100007F"]
