"""Signals that end a training when it suits."""

import os
import signal
import threading

import pytest

from sempart_jax.host.stop_signals import StoppedRunError, StopSignals

STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_is_noted_and_told(number, capfd):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == number
    assert signal.getsignal(number) is before
    said = capfd.readouterr().err
    assert f"{signal.Signals(number).name}: ending after this step" in said
    assert ("once more ends at once" in said) == (number == signal.SIGINT)
    assert StoppedRunError("kept", number).exit_status == STATUS[number]


def test_a_second_interrupt_is_left_to_the_system():
    with StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_other_threads_take_no_signals():
    before = signal.getsignal(signal.SIGTERM)
    opened = []

    def open_in_thread():
        with StopSignals() as signals:
            opened.append((signals.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=open_in_thread)
    thread.start()
    thread.join()
    assert opened == [(None, before)]


def test_a_run_that_others_have_ended_has_status_0():
    assert StoppedRunError("kept").exit_status == 0
