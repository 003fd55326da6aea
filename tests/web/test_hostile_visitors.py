"""What strangers may not do to the page as it is served; skips where gradio is missing."""

import asyncio
import collections
import contextlib
import importlib.util
import io
import json
import re
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from tests.commands import REPOSITORY, run_train
from tests.faults.damaged_images import damaged, encode, scene, strips, unusual
from tests.faults.peak_memory import needs_linux, peak_kilobytes
from tests.web.running_server import (
    RADIUS,
    SAVE_CUTOUT,
    SETTINGS,
    UPLOAD,
    Server,
    call,
    drop,
    file_data,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None, reason="gradio is not installed"
    ),
]

MAX_MEGABYTES = 4
LARGEST = MAX_MEGABYTES * 2**20
MORE_MEGABYTES = 1000
JOIN, READ = "/gradio_api/queue/join", "/gradio_api/file="


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visitors")
    write_scenes(folder / "scenes", 8, 40, seed=0)
    finished = run_train(folder / "run", folder / "scenes/images", steps=1, config="baseline")
    assert finished.returncode == 0, finished.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def server(workdir, tmp_path_factory):
    running = Server(workdir, tmp_path_factory.mktemp("server"), max_megabytes=MAX_MEGABYTES)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def client(server):
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=server.address, timeout=60, trust_env=False) as opened:
        yield opened


def visit(server, visitor):
    """Let a coroutine function use a client of the server."""
    httpx = pytest.importorskip("httpx")

    async def run():
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=server.address, timeout=300, limits=limits, trust_env=False
        ) as opened:
            return await visitor(opened)

    return asyncio.run(run())


def drop_all(server, pictures):
    async def visitor(client):
        return [await drop(client, *picture) for picture in pictures]

    return visit(server, visitor)


def test_a_picture_is_cut_out_by_one_call_of_the_network(server):
    picture = encode(scene())
    before = server.network_calls

    async def visitor(client):
        told = await drop(client, "photo.png", picture, "one")
        assert "photo.png · 56 × 48 pixels" in told
        changed = [None, "guided", 5, *SETTINGS[2:]]
        assert (await call(client, RADIUS, changed, "one"))["success"]
        saved = await call(client, SAVE_CUTOUT, changed, "one")
        stranger = await call(client, SAVE_CUTOUT, changed, "another")
        assert "No picture" in stranger["output"]["error"]
        return await client.get(saved["output"]["data"][0]["url"])

    answer = visit(server, visitor)
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (56, 48))
        cut = np.asarray(image)
    seen = cut[..., 3] > 0
    np.testing.assert_array_equal(cut[seen, :3], np.asarray(scene())[seen])
    assert server.network_calls == before + 1


def test_no_file_is_read_but_what_was_uploaded(server, client, workdir):
    before = server.network_calls
    paths = [Path("/etc/hostname"), REPOSITORY / "README.md", workdir / "config.json"]
    upload = f"{server.temporary}/../../{workdir.parent.name}/run/config.json"
    for path in [*map(str, paths), f"/gradio_api/../{paths[0]}", upload]:
        answer = client.get(READ + path)
        assert answer.status_code == 403
        assert "File not allowed" in answer.text

        async def visitor(opened, path=path):
            return await call(opened, UPLOAD, [file_data(path), *SETTINGS], "reader")

        assert not visit(server, visitor)["success"]
    assert server.network_calls == before


@pytest.mark.parametrize("path", ["http://example.org/a.png", "https://127.0.0.1/a.png"])
def test_nothing_is_fetched_for_a_visitor(server, client, path):
    assert client.get(READ + path).status_code == 403
    assert client.get(f"/gradio_api/proxy={path}").status_code == 400
    join = {"data": [file_data(path), *SETTINGS], "fn_index": UPLOAD, "session_hash": "abc"}
    plain = json.dumps(join)
    headers = {"content-type": "application/json"}
    for body in (plain, plain.replace("http", "\\u0068ttp")):
        assert client.post(JOIN, content=body, headers=headers).status_code == 403
    assert client.post(JOIN, content="[" * 100_000, headers=headers).status_code == 400
    assert server.outside.requests == []


def test_other_sites_may_not_use_the_page(client):
    assert client.get("/").status_code == 200
    # Names that other sites may point at this machine.
    for host in ("evil.example", "127.0.0.1.evil.example:7860", "localhost.evil.example"):
        assert client.get("/", headers={"host": host}).status_code == 400
    files = {"files": ("photo.png", encode(scene()))}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = client.post("/gradio_api/upload", files=files, headers={"origin": origin})
        assert answer.status_code == 403
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert not re.search(r"https?:|\*", policy)


def test_bodies_are_bounded_whatever_they_say_of_their_length(client, server):
    log, file = len(server.text), bytes(LARGEST + 1)
    for files in ([("files", ("a.png", file))], [("files", ("a.png", file[: 2**20]))] * 6):
        assert client.post("/gradio_api/upload", files=files).status_code == 413
    form = {"content-type": "multipart/form-data; boundary=b"}
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    chunks = [head, *[bytes(2**20)] * 6]
    answer = client.post("/gradio_api/upload", content=iter(chunks), headers=form)
    assert answer.status_code == 413
    many = json.dumps({"data": ["a" * 2 * LARGEST]})
    answer = client.post(JOIN, content=many, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "Traceback" not in server.text[log:]


@needs_linux
def test_hostile_pictures_are_named_and_the_others_are_cut_out(server):
    good, bad = unusual() | strips(), damaged()
    drop_all(server, [("photo.png", encode(scene()))])
    before, log = peak_kilobytes(server.process.pid) / 1024, len(server.text)
    pictures = {**good, **bad}
    for name, text in zip(pictures, drop_all(server, pictures.items()), strict=True):
        assert text.count(name) == 1, text
        assert ("is no picture that can be read" in text) == (name in bad), text
        assert ("pixels · " in text) == (name in good), text
    peak = peak_kilobytes(server.process.pid) / 1024
    print(f"page: {len(good)} cut out, {len(bad)} named, peak {before:.0f} MB, then {peak:.0f} MB")
    assert peak < before + MORE_MEGABYTES
    assert "Traceback" not in server.text[log:]


def test_hostile_names_stay_in_the_folder_of_uploads(server):
    names = ["../../x.png", "/tmp/x.png", "..\\..\\x.png", "C:\\x.png", "a\nb.png", "x" * 400]
    names += ["a\0b.png", "'\"<b>.png", "…/../ü.png", "..", "CON.png"]
    for text in drop_all(server, [(name, encode(scene())) for name in names]):
        assert text == 400 or "<b>" not in text, text
    (folder,) = server.temporary.iterdir()
    assert folder.name.startswith("sempart_jax_app_")
    assert {path.name for path in server.temporary.parent.iterdir()} == {"temporary", "log.txt"}


def test_visitors_who_send_nothing_keep_nobody_from_sending(server):
    request = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            idle = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            stack.enter_context(idle).sendall(request.encode())
        (told,) = drop_all(server, [("photo.png", encode(scene()))])
    assert "56 × 48 pixels" in told


def test_many_visitors_at_once_are_served_or_refused(server):
    pictures = [(f"visitor_{number}.png", encode(scene(number))) for number in range(100)]

    async def visitor(client):
        return await asyncio.gather(*(drop(client, *picture) for picture in pictures))

    told = visit(server, visitor)
    kinds = collections.Counter(503 if text == 503 else "finished" for text in told)
    print(f"visitors: {dict(kinds)}")
    assert kinds["finished"] > 0
    for (name, _), text in zip(pictures, told, strict=True):
        assert text == 503 or name in text
    (after,) = drop_all(server, [("after.png", encode(scene()))])
    assert "after.png" in after


@needs_linux
def test_nothing_listens_but_on_loopback(server):
    sockets = {
        re.search(r"\d+", str(link.readlink()))[0]
        for link in Path(f"/proc/{server.process.pid}/fd").iterdir()
        if str(link.readlink()).startswith("socket:")
    }
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    listening = [each[1].split(":")[0] for each in lines if each[3] == "0A" and each[9] in sockets]
    # 127.0.0.1 as the kernel writes it.
    assert listening == ["0100007F"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_server_ends_quietly_and_leaves_no_file(workdir, tmp_path, number, status):
    server = Server(workdir, tmp_path)
    # A visitor's open page does not hold it up.
    with socket.create_connection(("127.0.0.1", server.port)) as visitor:
        visitor.sendall(b"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert visitor.recv(15).startswith(b"HTTP/1.1 200")
        before = server.text
        server.process.send_signal(number)
        assert server.process.wait(timeout=20) == status
    assert server.text == before
    assert list(server.temporary.iterdir()) == []
    assert server.outside.requests == []
