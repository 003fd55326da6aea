"""A run from its lock to its last step, whatever it trains."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Generic

import jax
from ml_collections import ConfigDict

from sempart_jax.data.image_sources import ImageSource
from sempart_jax.host.folder_lock import locked
from sempart_jax.host.shown_names import printable
from sempart_jax.host.stop_signals import StopSignals
from sempart_jax.runs.checkpoints import Checkpoints, State
from sempart_jax.runs.run_config import without
from sempart_jax.runs.run_record import check_nothing_lost, note_kept_step, register_run
from sempart_jax.training import distributed
from sempart_jax.training.log import SilentLog, TrainingLog
from sempart_jax.training.loop import TrainingRun
from sempart_jax.training.recorder import RunRecorder
from sempart_jax.training.task import TrainingTask


@dataclasses.dataclass(frozen=True)
class Plan(Generic[State]):
    """What a run is to do.

    Attributes:
        config: its configuration, checked.
        default: the configuration of its task with nothing changed.
        task: what it trains.
        images: what it trains on.
        last_step: steps at its end.
        fingerprints: hashes of what the configuration points to, by name.
        resumable_fields: fields that may differ when it is resumed.
        process_fields: fields that may differ between its processes.
    """

    config: ConfigDict
    default: ConfigDict
    task: TrainingTask[State]
    images: ImageSource
    last_step: int
    fingerprints: Mapping[str, str]
    resumable_fields: tuple[str, ...]
    process_fields: tuple[str, ...]


def check_devices(config: ConfigDict) -> None:
    """Refuse what the devices of all processes cannot share evenly.

    Args:
        config: configuration of a run.

    Raises:
        ValueError: they do not divide the batch, or ``config.accumulation`` does not divide the
            images of each; or ``config.distributed`` is set and this process is alone.
    """
    if config.distributed and not jax.distributed.is_initialized():
        raise ValueError(
            "config.distributed is set and this process is alone: train within "
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
    """Refuse at once what checkpoints could not be written to, hours later.

    Args:
        workdir: directory of a run, which need not exist.

    Raises:
        ValueError: it is a file, lies in one, or its name is no UTF-8, which orbax wants.
    """
    for path in (workdir, *workdir.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(
                f"--workdir={printable(workdir)}: {printable(path)} is a file. Name a folder"
            )
    try:
        str(workdir.resolve()).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"--workdir={printable(workdir)}: its whole name must be UTF-8. Name another folder"
        ) from error


def carry_out(plan: Plan[State], workdir: Path, signals: StopSignals | None = None) -> None:
    """Train, or continue to train, to the end; all processes of a run call it.

    Args:
        plan: what the run is to do, the same in all processes.
        workdir: directory of the run; that of process 0 is the one that counts.
        signals: what asks a process that is alone to end.

    Raises:
        ValueError: if no run can be in ``workdir``; if the plan is not that of the run there, or
            not the same in all processes; if another process trains there, or the checkpoints of
            the run are damaged or gone.
        FileNotFoundError: if weights are missing.
        NoReadableImageError: if no training image can be read.
        UnhealthyRunError: if the loss is no longer finite or what is trained has collapsed. The
            last good checkpoint stays.
        StoppedRunError: if this process, or one of several, was told to end; what is done is kept.
        WriteError: if ``workdir`` cannot be written to. Older checkpoints stay.
    """
    config, task = plan.config, plan.task
    shared = {f"config.{name}": x for name, x in without(config, plan.process_fields).items()}
    distributed.check_agreement(shared | dict(plan.fingerprints))
    with contextlib.ExitStack() as stack:
        state = task.empty_state()
        if distributed.is_writer():
            check_workdir(workdir)
            stack.enter_context(locked(workdir, "--workdir"))
            register_run(
                workdir,
                config,
                plan.fingerprints,
                last_step=plan.last_step,
                default=plan.default,
                resumable_fields=plan.resumable_fields,
            )
            checkpoints = stack.enter_context(Checkpoints(workdir, keep=config.checkpoint.keep))
            state = _resume(workdir, checkpoints, task, state)
        state = distributed.broadcast_from_writer(state)
        first_step = int(state.step)
        log: TrainingLog | SilentLog = SilentLog(jax.process_index())
        recorder: RunRecorder[State] | None = None
        if distributed.is_writer():
            log = training_log = stack.enter_context(
                TrainingLog(
                    workdir,
                    first_step=first_step,
                    last_step=plan.last_step,
                    batch_size=config.batch_size,
                )
            )
            log.say(
                f"{len(plan.images.names)} images, {task.described}, steps {first_step} to "
                f"{plan.last_step} of {config.batch_size} images, on {_describe_devices()}; "
                "the first step takes longest, it compiles"
            )
            recorder = stack.enter_context(task.recorder(workdir, checkpoints, training_log))
        run = TrainingRun(
            config,
            task,
            state,
            images=plan.images,
            log=log,
            recorder=recorder,
            signals=signals,
        )
        run.to_end(plan.last_step)


def _resume(
    workdir: Path, checkpoints: Checkpoints, task: TrainingTask[State], empty: State
) -> State:
    resumed = checkpoints.resume(empty)
    if resumed is None:
        check_nothing_lost(workdir)
        return task.initial_state()
    note_kept_step(workdir, int(resumed.step))
    return resumed


def _describe_devices() -> str:
    devices, processes = jax.devices(), jax.process_count()
    described = f"{len(devices)} x {devices[0].device_kind}"
    return described if processes == 1 else f"{described} in {processes} processes"
