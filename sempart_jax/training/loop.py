"""The training loop: batches, steps, log, checkpoints, in one process or several."""

import contextlib
import glob
import sys
import time
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Generic

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sempart_jax.data.image_sources import ImageSource
from sempart_jax.data.pipeline import Batch, training_batches
from sempart_jax.host.devices import describe_devices
from sempart_jax.host.folder_lock import locked
from sempart_jax.host.shown_names import printable
from sempart_jax.host.stop_signals import StoppedRunError, StopSignals
from sempart_jax.runs.checkpoints import Checkpoints, State
from sempart_jax.runs.run_config import without
from sempart_jax.runs.run_record import check_nothing_lost, note_kept_step, register_run
from sempart_jax.training import distributed
from sempart_jax.training.health import START_ANEW, CollapsedRunError, UnhealthyRunError
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.task import TrainingTask
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.train_step import Metrics, replicate, shard, unreplicate

_STEPS_IN_FLIGHT = 2
"""Steps that wait on the device; more would only make the progress bar run ahead of it."""


@contextlib.contextmanager
def registered_run(
    workdir: Path,
    config: ConfigDict,
    fingerprints: Mapping[str, str],
    *,
    last_step: int,
    default: ConfigDict,
    resumable_fields: Container[str],
    process_fields: Container[str],
) -> Iterator[None]:
    """Hold the folder of a run, and check that this is the run that was begun there."""
    shared = {f"config.{name}": value for name, value in without(config, process_fields).items()}
    distributed.check_agreement(shared | dict(fingerprints))
    if not distributed.is_writer():
        yield
        return
    check_workdir(workdir)
    with locked(workdir, "--workdir"):
        register_run(
            workdir,
            config,
            fingerprints,
            last_step=last_step,
            default=default,
            resumable_fields=resumable_fields,
        )
        yield


def fit(
    task: TrainingTask[State], config: ConfigDict, images: ImageSource, workdir: Path, end: int
) -> None:
    """Train, or continue to train, to the end; all processes of a run call it.

    SIGTERM and SIGINT end a process that is alone after its step, which is kept. A second SIGINT
    ends it at once. Where no checkpoint is yet, a collapse leaves one, for it may be a false alarm.
    """
    with contextlib.ExitStack() as stack:
        state = task.empty_state()
        if distributed.is_writer():
            checkpoints = stack.enter_context(Checkpoints(workdir, keep=config.checkpoint.keep))
            state = _resume(workdir, checkpoints, task, state)
        state = distributed.broadcast_from_writer(state)
        step = int(state.step)
        log: TrainingLog | None = None
        keeper: _Keeper[State] | None = None
        if distributed.is_writer():
            log = stack.enter_context(
                TrainingLog(workdir, first_step=step, last_step=end, batch_size=config.batch_size)
            )
            log.say(
                f"{len(images.names)} images, {task.described}, steps {step} to {end} of "
                f"{config.batch_size} images, on {describe_devices()} in "
                f"{config.backbone.dtype}; the first step is slow, because it compiles"
            )
            keeper = _Keeper(task, config, workdir, checkpoints, log)
            stack.enter_context(keeper.best)
        signals = StopSignals()
        if not config.distributed:  # jax.distributed takes SIGTERM, and tells all processes
            stack.enter_context(signals)
        state = replicate(state)
        if keeper and step == 0:
            keeper.look(step, state, at_end=step == end)
        batches = stack.enter_context(
            contextlib.closing(
                training_batches(
                    images,
                    batch_size=config.batch_size,
                    image_size=config.data.image_size,
                    resize_size=config.data.resize_size,
                    seed=config.seed,
                    start_step=step,
                    workers=config.data.workers,
                    process_index=jax.process_index(),
                    process_count=jax.process_count(),
                )
            )
        )
        steps = _Steps(task, config, log, end)
        while step < end:
            try:
                batch = next(batches)
            except Exception:
                # Only the images have failed: what was learned is kept.
                if steps.unlogged:
                    steps.log_mean(step)
                if keeper and step:
                    keeper.save(state, wait=True)
                raise
            state = steps.take(state, batch)
            step += 1
            at_end = step == end
            stop = bool(distributed.asked_to_stop(step) or signals.received)
            save = at_end or stop or step % config.checkpoint.every_steps == 0
            if save or step % config.log.every_steps == 0:
                try:
                    steps.log_mean(step)
                except CollapsedRunError:
                    # Not at the end: a run whose last step is kept counts as done.
                    if keeper and not at_end:
                        keeper.save_first(state)
                    raise
            if keeper:
                with steps.paused():
                    # Whoever asks to end waits for seconds, and a look may take minutes.
                    if at_end or not stop:
                        keeper.look(step, state, at_end=at_end)
                    # Last, so that a run killed before it does all of the above again.
                    if save:
                        keeper.save(state, wait=at_end or stop)
            if stop and not at_end:
                raise StoppedRunError(
                    f"saved step {step}; repeat the command to continue from there",
                    signals.received,
                )


class _Steps(Generic[State]):
    """Takes steps without waiting for each, and logs the mean of their metrics."""

    def __init__(
        self,
        task: TrainingTask[State],
        config: ConfigDict,
        log: TrainingLog | None,
        end: int,
    ) -> None:
        self._task, self._config, self._log, self._end = task, config, log, end
        self.unlogged: list[Metrics] = []
        self._unreadable = 0
        self._started = time.monotonic()

    def take(self, state: State, batch: Batch) -> State:
        for path, reason in batch.unreadable:
            self._unreadable += 1
            skipped = f"skipped {printable(path)}: {reason} ({self._unreadable} unreadable so far)"
            if self._log:
                self._log.say(skipped)
            else:  # this process may be the only one to know
                print(f"process {jax.process_index()}: {skipped}", file=sys.stderr)
        examples = Examples(*shard((batch.image, batch.mask), jax.local_device_count()))
        state, metrics = self._task.take_step(state, examples)
        self.unlogged.append(metrics)
        if len(self.unlogged) > _STEPS_IN_FLIGHT:
            jax.block_until_ready(self.unlogged[-1 - _STEPS_IN_FLIGHT])
        if self._log:
            self._log.advance()
        return state

    def log_mean(self, step: int) -> None:
        """Check the steps since the last log one by one, and write their mean."""
        rows = [
            {name: float(value[0]) for name, value in metrics.items()}
            for metrics in jax.device_get(self.unlogged)
        ]
        first = step - len(rows) + 1
        self.unlogged.clear()
        for offset, row in enumerate(rows):
            self._task.check_health(first + offset, row)
        if self._log:
            self._log_rows(self._log, step, first, rows)
        self._started = time.monotonic()

    def _log_rows(
        self, log: TrainingLog, step: int, first: int, rows: list[dict[str, float]]
    ) -> None:
        if advice := self._task.advise(first, rows):
            log.say(advice)
        mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        seconds = time.monotonic() - self._started
        mean["images_per_second"] = len(rows) * self._config.batch_size / seconds
        log.scalars(step, mean)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of the rate: drawing and scoring are no training."""
        before = time.monotonic()
        yield
        self._started += time.monotonic() - before


class _Keeper(Generic[State]):
    """Looks at states and keeps them, in the one process of a run that writes."""

    def __init__(
        self,
        task: TrainingTask[State],
        config: ConfigDict,
        workdir: Path,
        checkpoints: Checkpoints,
        log: TrainingLog,
    ) -> None:
        self._task, self._config, self._workdir, self._log = task, config, workdir, log
        self._checkpoints = checkpoints
        task.open_views()
        self.best = Checkpoints(workdir, name="best", keep=1, best=True)

    def look(self, step: int, state: State, *, at_end: bool) -> None:
        """Draw and validate what is due: at both ends, and every so often."""
        at_either_end = at_end or step == 0
        panel_due = at_either_end or _is_due(step, self._config.log.panels_every_steps)
        validation_due = at_either_end or _is_due(step, self._config.validation.every_steps)
        if panel_due or validation_due:
            check_finite_state(unreplicate(state))
        if panel_due:
            self._task.draw_panel(step, state, self._log)
        if validation_due:
            scores, best = self._task.validate(step, state)
            if scores:
                values = {f"iou {name}": score for name, score in scores.items()}
                self._log.scalars(step, values, "validation")
                listed = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
                self._log.say(f"step {step}, validation IoU: {listed}")
            if best is not None:
                self.best.save(unreplicate(state), score=best)

    def save(self, state: State, *, wait: bool) -> None:
        """Keep a replicated state; without ``wait``, a failure is told by the next time."""
        host_state: State = jax.device_get(unreplicate(state))
        check_finite_state(host_state)
        # First, so that a run whose last checkpoint is there has its last export, too.
        self._task.write_export(host_state, self._workdir)
        before = self._checkpoints.latest_step
        self._checkpoints.save(host_state)
        if wait:
            self._checkpoints.wait()
            before = self._checkpoints.latest_step
        if before is not None:
            note_kept_step(self._workdir, before)
        if self._config.log.panel_images:
            self._log.curves()

    def save_first(self, state: State) -> None:
        """Keep a replicated state where none is kept yet, unless it is not finite."""
        if self._checkpoints.latest_step is None:
            with contextlib.suppress(UnhealthyRunError):
                self.save(state, wait=True)


def check_finite_state(state: State) -> None:
    """Refuse a state that the last update has broken: its loss has been finite still."""
    state = jax.device_get(state)
    broken = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all()
    ]
    if broken:
        raise UnhealthyRunError(
            f"step {int(state.step)}: {len(broken)} arrays of the state are not finite, first "
            f"{broken[0]}. {START_ANEW}"
        )


def check_devices(config: ConfigDict) -> None:
    """Refuse what the devices of all processes cannot share evenly."""
    if config.distributed and not jax.distributed.is_initialized():
        raise ValueError(
            "config.distributed is set, but no other process has been joined: train within "
            "sempart_jax.training.distributed.joined"
        )
    devices = jax.device_count()
    if config.batch_size % devices:
        raise ValueError(
            f"config.batch_size must be a multiple of the number of devices, {devices}, "
            f"got {config.batch_size}"
        )
    if config.batch_size % (devices * config.accumulation):
        raise ValueError(
            f"config.accumulation must divide the {config.batch_size // devices} images of each "
            f"device, got {config.accumulation}"
        )


def check_workdir(workdir: Path) -> None:
    """Refuse at once what checkpoints could not be written to, hours later."""
    for path in (workdir, *workdir.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(
                f"--workdir={printable(workdir)}: {printable(path)} is a file. Give a folder"
            )
    try:
        str(workdir.resolve()).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"--workdir={printable(workdir)}: its path must be valid UTF-8. Give another folder"
        ) from error
    if glob.has_magic(str(workdir.resolve())):
        # It would not find again what it has written, and call all checkpoints damaged.
        raise ValueError(
            f"--workdir={printable(workdir)}: its path may not hold [, * or ?, which checkpoints "
            "cannot be written below. Give another folder"
        )


def _resume(
    workdir: Path, checkpoints: Checkpoints, task: TrainingTask[State], empty: State
) -> State:
    resumed = checkpoints.resume(empty)
    if resumed is None:
        check_nothing_lost(workdir)
        return task.initial_state()
    note_kept_step(workdir, int(resumed.step))
    return resumed


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
