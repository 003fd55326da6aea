import asyncio

import pytest

from sempart_jax.web import bodies
from sempart_jax.web.bodies import BoundedBody, UnfinishedBodyError


def part(content, more=True):
    return {"type": "http.request", "body": content, "more_body": more}


def read(parts, *, longest, pause=0.0):
    """Read a body that comes in parts; return what came, and the body."""

    async def run():
        pending = list(parts)
        never = asyncio.Event()

        async def receive():
            await asyncio.sleep(pause)
            if not pending:
                await never.wait()
            return pending.pop(0)

        body, received = BoundedBody(receive, longest=longest), []
        try:
            while len(received) < len(parts):
                received.append(await body.receive())
        except UnfinishedBodyError:
            with pytest.raises(UnfinishedBodyError):
                await body.receive()
        return received, body

    return asyncio.run(run())


def test_a_body_within_bounds_and_what_follows_it_are_given_on():
    parts = [part(b"12345"), part(b"67890", more=False), {"type": "http.disconnect"}]
    received, body = read(parts, longest=10)
    assert received == parts
    assert not body.unfinished


def test_a_body_is_cut_off_at_its_length():
    received, body = read([part(b"12345"), part(b"678901")], longest=10)
    assert received == [part(b"12345")]
    assert body.refusal[0] == 413


def test_a_visitor_who_leaves_is_no_error_of_the_page():
    received, body = read([part(b"12345"), {"type": "http.disconnect"}], longest=10)
    assert received == [part(b"12345")]
    assert body.broken_off
    assert body.refusal is None


def test_without_a_body_there_is_nothing_to_break_off():
    received, body = read([{"type": "http.disconnect"}], longest=0)
    assert received == [{"type": "http.disconnect"}]
    assert not body.unfinished


def test_a_trickle_is_cut_off_and_a_stream_is_not(monkeypatch):
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(bodies, "SLOWEST_BYTES_PER_SECOND", 100)
    trickle, body = read([part(b"1")] * 50, longest=1000, pause=0.05)
    assert len(trickle) < 50
    assert body.refusal[0] == 408
    stream = [part(b"1" * 1000)] * 5 + [part(b"", more=False)]
    received, body = read(stream, longest=5000, pause=0.05)
    assert received == stream
    assert not body.unfinished


def test_time_has_no_end_after_the_body(monkeypatch):
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.05)
    parts = [part(b"1", more=False), {"type": "http.disconnect"}]

    async def run():
        pending = list(parts)

        async def receive():
            await asyncio.sleep(0.2 * (len(pending) == 1))
            return pending.pop(0)

        body = BoundedBody(receive, longest=9)
        return [await body.receive(), await body.receive()]

    assert asyncio.run(run()) == parts
