"""The training loop of one process: batches, steps, and a watch over their metrics."""

import contextlib
import signal
import time
from typing import Generic

import jax
import numpy as np
from ml_collections import ConfigDict

from sempart_jax.data.image_sources import ImageSource
from sempart_jax.data.pipeline import Batch, training_batches
from sempart_jax.host.shown_names import printable
from sempart_jax.host.stop_signals import (
    LookInterruptedError,
    StoppedRunError,
    StopSignals,
)
from sempart_jax.runs.checkpoints import State
from sempart_jax.training import distributed
from sempart_jax.training.awaited_batches import AwaitedBatches
from sempart_jax.training.health import CollapsedRunError
from sempart_jax.training.log import SilentLog, TrainingLog
from sempart_jax.training.plateau import plateau_advice
from sempart_jax.training.recorder import RunRecorder
from sempart_jax.training.task import TrainingTask
from sempart_jax.two_tricks.objective_base import Examples
from sempart_jax.two_tricks.train_step import Metrics, replicate, shard

_STEPS_IN_FLIGHT = 2
"""Steps that wait on the device; more would only make the progress bar run ahead of it."""


class TrainingRun(Generic[State]):
    """The state on the devices, and what happens to it step by step."""

    def __init__(
        self,
        config: ConfigDict,
        task: TrainingTask[State],
        state: State,
        *,
        images: ImageSource,
        log: TrainingLog | SilentLog,
        recorder: RunRecorder[State] | None,
        signals: StopSignals | None = None,
    ) -> None:
        """Put the parts of a run together.

        Args:
            config: configuration of the run.
            task: what is trained.
            state: where it starts, the same in all processes.
            images: training images.
            log: where metrics go.
            recorder: what keeps and looks at states; ``None`` where another process does.
            signals: what asks a process that is alone to end.
        """
        self._config, self._task, self._images = config, task, images
        self._log, self._recorder = log, recorder
        self._signals = signals or StopSignals()
        self._state: State = replicate(state)
        self._step, self._last_step = int(state.step), 0
        self._unlogged: list[Metrics] = []
        self._unreadable = 0
        self._clock_started = time.monotonic()

    def to_end(self, last_step: int) -> None:
        """Take all steps that are left.

        Args:
            last_step: steps at the end of the run.

        Raises:
            NoReadableImageError: if no training image can be read.
            UnhealthyRunError: if the loss is no longer finite or what is trained has collapsed. The
                last good checkpoint stays; where there is none yet, a collapse leaves one, for it
                may be a false alarm.
            StoppedRunError: if this process, or one of several, was told to end; the last step is
                kept.
            WriteError: if a log or a checkpoint cannot be written. Older checkpoints stay.
        """
        config, self._last_step = self._config, last_step
        self._signals.defer()
        if self._recorder is not None and (
            self._step == 0 or self._recorder.misses_look(self._step)
        ):
            self._make_up_for_look(self._recorder, at_end=self._step == last_step)
        batches = training_batches(
            self._images,
            batch_size=config.batch_size,
            image_size=config.data.image_size,
            resize_size=config.data.resize_size,
            seed=config.seed,
            start_step=self._step,
            workers=config.data.workers,
            cache_bytes=round(config.data.cache_gigabytes * 1e9),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        with contextlib.closing(AwaitedBatches(batches)) as awaited:
            self._clock_started = time.monotonic()
            while self._step < last_step:
                self._take_step(self._next_batch(awaited))
                at_end = self._step == last_step
                stop = self._asked_to_stop()
                save = at_end or stop or self._step % config.checkpoint.every_steps == 0
                if save or self._step % config.log.every_steps == 0:
                    self._log_steps(at_end=at_end)
                if self._recorder is not None:
                    stop = self._record(self._recorder, at_end=at_end, save=save, stop=stop)
                if stop:
                    raise self._stopped()

    def _asked_to_stop(self) -> bool:
        return distributed.asked_to_stop(self._step) or self._signals.received is not None

    def _stopped(self) -> StoppedRunError:
        kept = f"Step {self._step} is kept" if self._step else "Nothing was trained yet"
        return StoppedRunError(
            f"ended from outside. {kept}: the same command continues the run from there",
            self._signals.received or signal.SIGTERM,
        )

    def _make_up_for_look(self, recorder: RunRecorder[State], *, at_end: bool) -> None:
        try:
            recorder.look(
                self._step, self._state, at_end=at_end, between_parts=self._signals.interrupt_look
            )
        except LookInterruptedError:
            # The state is kept already, or has not learned anything.
            raise self._stopped() from None
        if self._step:
            recorder.note_missed_look(None)

    def _next_batch(self, awaited: AwaitedBatches) -> Batch:
        try:
            batch = awaited.next(given_up=lambda: self._signals.received is not None)
        except Exception:
            # Only the images have failed.
            self._keep()
            raise
        if batch is None:
            self._keep()
            raise self._stopped()
        return batch

    def _keep(self) -> None:
        """Write the state between two steps, where there is anything to write."""
        if self._unlogged:
            self._log_steps(at_end=False)
        if self._recorder is not None and self._step:
            self._recorder.save(self._state, wait=True)

    def _record(
        self, recorder: RunRecorder[State], *, at_end: bool, save: bool, stop: bool
    ) -> bool:
        """Look at a state and keep it; returns whether to stop, which a look may have learned."""
        before_pause = time.monotonic()
        step, state = self._step, self._state
        look_due = recorder.is_look_due(step, at_end=at_end)
        if look_due and not stop:
            try:
                recorder.look(
                    step, state, at_end=at_end, between_parts=self._signals.interrupt_look
                )
                look_due = False
            except LookInterruptedError:
                stop = True
        if stop and look_due:
            # Whoever asks to end waits for seconds, and a look may take minutes.
            recorder.note_missed_look(step)
        if stop and self._unlogged:
            self._log_steps(at_end=at_end)
        # Last, so that a run killed before it does all of the above again.
        if save or stop:
            recorder.save(state, wait=at_end or stop)
            if self._config.log.panel_images:
                self._log.curves()
        # The rate of training is not that of drawing and scoring.
        self._clock_started += time.monotonic() - before_pause
        return stop

    def _take_step(self, batch: Batch) -> None:
        for path, reason in batch.unreadable:
            self._unreadable += 1
            self._log.warn(
                f"skipped {printable(path)}: {reason} ({self._unreadable} unreadable so far)"
            )
        examples = Examples(*shard((batch.image, batch.mask), jax.local_device_count()))
        self._state, metrics = self._task.take_step(self._state, examples)
        self._unlogged.append(metrics)
        if len(self._unlogged) > _STEPS_IN_FLIGHT:
            jax.block_until_ready(self._unlogged[-1 - _STEPS_IN_FLIGHT])
        self._step += 1
        self._log.advance()

    def _log_steps(self, *, at_end: bool) -> None:
        """Check the steps since the last log one by one, and write their mean."""
        rows = [
            {name: float(value[0]) for name, value in metrics.items()}
            for metrics in jax.device_get(self._unlogged)
        ]
        first = self._step - len(rows) + 1
        self._unlogged.clear()
        try:
            for offset, row in enumerate(rows):
                self._task.check_health(first + offset, row)
        except CollapsedRunError:
            # Not at the end: a run whose last step is kept counts as done.
            if self._recorder is not None and not at_end:
                self._recorder.save_first(self._state)
            raise
        if self._recorder is not None and "ncut" in rows[0]:
            advice = plateau_advice(first, [row["ncut"] for row in rows], self._last_step)
            if advice is not None:
                self._log.warn(advice)
        mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        seconds = time.monotonic() - self._clock_started
        mean["images_per_second"] = len(rows) * self._config.batch_size / seconds
        self._log.scalars(self._step, mean)
        self._clock_started = time.monotonic()
