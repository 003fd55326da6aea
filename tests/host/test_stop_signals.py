"""What a signal does before training goes on, and while it does."""

import os
import signal

import pytest

from sempart_jax.host.stop_signals import StoppedRunError, StopSignals

STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}


@pytest.mark.parametrize("number", list(STATUS))
def test_a_signal_before_training_goes_on_ends_the_program(number, capfd):
    signals = StopSignals()
    with signals.noticed(), pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == STATUS[number]
    assert signals.received is None
    assert (
        f"{number.name}: ended before training went on; the same command" in capfd.readouterr().err
    )


@pytest.mark.parametrize("number", list(STATUS))
def test_a_signal_while_training_is_noted_and_said(number, capfd):
    signals = StopSignals()
    with signals.noticed():
        signals.defer()
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert f"{number.name}: ending after this step" in capfd.readouterr().err
        # The system's own answer, which no computation can hold up.
        assert (signal.getsignal(signal.SIGINT) == signal.SIG_DFL) == (number == signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == number


def test_handlers_are_as_before_at_the_end():
    before = [signal.getsignal(number) for number in STATUS]
    signals = StopSignals()
    with signals.noticed():
        signals.defer()
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in STATUS] == before


def test_a_stopped_run_knows_its_exit_status():
    assert StoppedRunError("kept").exit_status == 0
    assert {number: StoppedRunError("kept", number).exit_status for number in STATUS} == STATUS
