import asyncio
import json
from pathlib import Path

import pytest

from sempart_jax.web import bodies
from sempart_jax.web.gate import Gate, content_length, host_name, is_served
from sempart_jax.web.uploads import UploadFolder

UPLOADS = Path("/data/uploads")


def request(
    path,
    *,
    hosts=(),
    host="localhost:7860",
    kind="http",
    body=(b"",),
    length=b"9",
    more_headers=(),
    uploads=None,
):
    """Send a request; return whether it got through whole, and what was answered."""
    reached, answer = [], []
    pending = list(body)

    async def application(scope, receive, send):
        read, more = b"", True
        while more:
            message = await receive()
            read, more = read + message["body"], message["more_body"]
        reached.append((scope["path"], read))
        start = {"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]}
        await send(start)
        await send({"type": "http.response.body", "body": b"page"})

    async def receive():
        part = pending.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(pending)}

    async def send(message):
        answer.append(message)

    scope = {"type": kind, "path": path, "headers": [(b"host", host.encode())]}
    if length is not None:
        scope["headers"].append((b"content-length", length))
    scope["headers"] += more_headers
    folder = uploads or UploadFolder(UPLOADS, 1000)
    asyncio.run(Gate(application, uploads=folder, hosts=hosts)(scope, receive, send))
    return reached == [(path, b"".join(body))], answer


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/assets/index.js",
        "/download/token/cutout",
        "/gradio_api/upload",
        "/gradio_api/upload_progress",
        "/gradio_api/queue/join",
        "/gradio_api/file=/data/uploads/a.png",
        "/gradio_api/file=C:/uploads/a.png",
        "/gradio_api/file=C:\\uploads\\a.png",
    ],
)
def test_what_the_page_needs_is_served(path):
    assert is_served(path)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://example.org/a.png",
        "/gradio_api/file=https://example.org/a.png",
        "/gradio_api/file=relative.png",
        "/gradio_api/proxy=https://example.org",
        "/gradio_api/run/predict",
        "/gradio_api/openapi.json",
        "/gradio_api/vibe-edit",
        "/gradio_api/process_recording",
        "/monitoring",
        "/monitoring/summary",
        "/login",
        "/file=/etc/passwd",
        "/elsewhere",
    ],
)
def test_all_else_is_not(path):
    assert not is_served(path)
    through, answer = request(path)
    assert not through
    assert answer[0]["status"] == 404


def test_answers_tell_browsers_to_load_nothing_from_elsewhere():
    through, answer = request("/")
    headers = dict(answer[0]["headers"])
    assert through
    assert headers[b"x-own"] == b"1"
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "LOCALHOST"])
def test_a_server_is_addressed_by_its_names(host):
    through, _ = request("/", host=host, hosts=("localhost", "127.0.0.1", "::1"))
    assert through


@pytest.mark.parametrize("host", ["evil.example:7860", "localhost.evil.example", ""])
def test_but_not_by_the_name_of_another(host):
    through, answer = request("/", host=host, hosts=("localhost", "127.0.0.1", "::1"))
    assert not through
    assert answer[0]["status"] == 421
    assert request("/", host=host)[0]


def test_a_missing_host_is_empty():
    assert host_name([(b"accept", b"*/*")]) == ""


def test_web_sockets_are_closed():
    through, answer = request("/", kind="websocket")
    assert not through
    assert answer == [{"type": "websocket.close", "code": 1008}]


def join(*data):
    return json.dumps({"data": data, "fn_index": 0}).encode()


@pytest.mark.parametrize(
    "body",
    [
        join(None, "guided", 9, {"path": "/data/uploads/abc/a.png", "url": "http://localhost/a"}),
        join([{"path": "/data/uploads/a.png"}]),
        join("/etc/passwd is but a word here"),
    ],
)
def test_an_uploaded_file_may_be_named(body):
    half = len(body) // 2
    through, _ = request("/gradio_api/queue/join", body=(body[:half], body[half:]))
    assert through


@pytest.mark.parametrize(
    "body",
    [
        join({"path": "/etc/passwd"}),
        join([[{"a": {"path": "/etc/passwd"}}]]),
        join({"path": "/data/uploads/../../etc/passwd"}),
        join({"path": "/data/uploads_of_others/a.png"}),
        join({"path": "http://example.org/a.png"}),
        join({"path": ["/etc/passwd"]}),
        join({"path": "a\0b"}),
        b"no JSON",
        b"[" * 100_000,
    ],
)
def test_no_other_file_may_be_named(body):
    through, answer = request("/gradio_api/queue/join", body=(body,))
    assert not through
    assert answer[0]["status"] == 403


@pytest.mark.parametrize(
    ("length", "status"),
    [(None, 411), (b"many", 411), (b"-1", 411), (b"1000000", 413), (b"9" * 400, 413)],
)
@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/upload/"])
def test_uploads_tell_their_length_and_are_bounded(path, length, status):
    through, answer = request(path, length=length)
    assert not through
    assert answer[0]["status"] == status
    assert request(path, length=b"1000")[0]


def test_eight_uploads_go_on_at_a_time_and_the_others_wait():
    going_on, most = 0, 0

    async def application(scope, receive, send):
        nonlocal going_on, most
        going_on += 1
        most = max(most, going_on)
        await asyncio.sleep(0.01)
        going_on -= 1
        answered.append(scope["path"])

    answered = []
    gate = Gate(application, uploads=UploadFolder(UPLOADS, 1000))
    upload = {"type": "http", "path": "/gradio_api/upload", "headers": [(b"content-length", b"9")]}

    async def unused(*message):
        raise AssertionError

    async def visit():
        page = {**upload, "path": "/"}
        await asyncio.gather(*(gate(scope, unused, unused) for scope in [upload] * 40 + [page]))

    asyncio.run(visit())
    assert len(answered) == 41
    # What is no upload does not wait.
    assert answered.index("/") < 10
    assert most == 8 + 1


@pytest.mark.parametrize("path", ["/", "/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_in_chunks_is_refused_even_beside_a_length(path):
    through, answer = request(path, more_headers=[(b"transfer-encoding", b"chunked")])
    assert not through
    assert answer[0]["status"] == 411


@pytest.mark.parametrize(
    ("path", "length", "body"),
    [
        ("/gradio_api/upload", b"9", [b"12345", b"67890"]),
        ("/gradio_api/queue/join", b"9", [join("a" * 2 * 1024**2)]),
        ("/gradio_api/cancel", b"9", [bytes(2**20), b"more"]),
        ("/gradio_api/cancel", None, [b"more"]),
    ],
)
def test_a_body_is_cut_off_where_it_is_longer_than_it_may_be(path, length, body):
    through, answer = request(path, length=length, body=body)
    assert not through
    assert [message.get("status") for message in answer] == [413, None]
    assert (b"connection", b"close") in answer[0]["headers"]


def test_visitors_who_send_nothing_keep_nobody_from_sending(monkeypatch):
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.05)
    answers = []

    async def application(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200})

    async def never():
        await asyncio.Event().wait()

    async def at_once():
        return {"type": "http.request", "body": b"picture"}

    async def send(message):
        if "status" in message:
            answers.append(message["status"])

    async def visit():
        gate = Gate(application, uploads=UploadFolder(UPLOADS, 1000))
        headers = [(b"content-length", b"9")]
        upload = {"type": "http", "path": "/gradio_api/upload", "headers": headers}
        await asyncio.gather(*(gate(upload, each, send) for each in [never] * 8 + [at_once]))

    asyncio.run(asyncio.wait_for(visit(), 60))
    # Whose time is over at the same moment, and who follows, come in any order.
    assert sorted(answers) == [200] + [408] * 8


def test_a_missing_length_is_none():
    assert content_length([(b"accept", b"*/*")]) is None
