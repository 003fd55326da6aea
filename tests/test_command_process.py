"""A command that is run, and what becomes of it when its caller is told to end."""

import os
import signal
import subprocess
import sys

import pytest

from sempart_jax.command_process import run_command
from tests.commands import REPOSITORY

KEEPS = """
import signal, sys, time
def keep(number, frame):
    time.sleep(0.3)
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, keep)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
IGNORES = """
import signal, time
signal.signal(signal.SIGTERM, lambda number, frame: print("asked", flush=True))
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


CALLER = """
import signal
from sempart_jax.command_process import run_command
signal.signal(signal.SIGINT, signal.{0})
run_command({1!r})
"""


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def start():
    """Start a process that runs such a command, and wait until that has set up its signals."""
    started = []

    # Tests in the background of a shell are told to ignore SIGINT, and so is what they start.
    def caller(code, handler="default_int_handler"):
        process = subprocess.Popen(
            python(CALLER.format(handler, python(code))),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield caller
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            process.stdout.close()
            process.wait()


@pytest.mark.parametrize("status", [0, 3])
def test_its_status_is_returned(status):
    before = signal.getsignal(signal.SIGTERM)
    assert run_command(python(f"import sys; sys.exit({status})")) == status
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_signal_that_ended_it_is_returned():
    assert run_command(python("import os; os.abort()")) == -signal.SIGABRT


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)]
)
def test_it_keeps_its_work_when_its_caller_is_told_to_end(start, number, status):
    process = start(KEEPS)
    process.send_signal(number)
    # All that hold the pipe have ended when it does.
    printed = process.communicate(timeout=60)[0]
    assert "waiting for the command to keep what it has done" in printed
    assert "saved" in printed
    assert process.returncode == status


def test_ctrl_c_in_a_terminal_reaches_both(start):
    process = start(KEEPS)
    os.killpg(process.pid, signal.SIGINT)
    assert "saved" in process.communicate(timeout=60)[0]
    assert process.returncode == -signal.SIGINT


def test_a_caller_that_ignores_ctrl_c_goes_on_doing_so(start):
    process = start(KEEPS, "SIG_IGN")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=60)[0]
    assert "saved" in printed
    assert process.returncode == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_killed_when_its_caller_is_told_again(start, number):
    process = start(IGNORES)
    process.send_signal(number)
    # The lines of two processes may run into each other.
    while "asked" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_that_comes_while_it_is_started_ends_it(monkeypatch, number, error):
    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(error):
            run_command(python("import time; time.sleep(60)"))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="/no/program"):
        run_command(["/no/program"])
