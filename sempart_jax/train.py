r"""Train a network on unlabelled images.

    python -m sempart_jax.train --config configs/tricks.py --workdir runs/tricks \
        --config.data.train=data/DUTS

Run the same command again to continue an interrupted run from its last checkpoint.
"""

import contextlib
import math
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from sempart_jax import command_line, distributed
from sempart_jax.checkpoints import Checkpoints, fingerprint_params
from sempart_jax.data.image_sources import ImageSource, open_images
from sempart_jax.data.pipeline import fingerprint
from sempart_jax.data.pseudo_masks import open_pseudo_masks
from sempart_jax.default_config import PROCESS_FIELDS, check_config, flatten
from sempart_jax.experiment import build_experiment
from sempart_jax.run_lock import locked
from sempart_jax.run_record import check_nothing_lost, note_kept_step, register_run
from sempart_jax.run_recorder import RunRecorder, Validations
from sempart_jax.stop_signals import StoppedRunError, StopSignals
from sempart_jax.train_step import replicate
from sempart_jax.training_log import SilentLog, TrainingLog
from sempart_jax.training_run import TrainingRun
from sempart_jax.write_errors import WriteError


def train(config: ConfigDict, workdir: Path, signals: StopSignals | None = None) -> Validations:
    """Train, or continue to train, to the end of the configured steps.

    Where ``config.distributed`` is set, all processes of the run call it, each within
    :func:`sempart_jax.distributed.joined`.

    Args:
        config: configuration, see ``sempart_jax.default_config``.
        workdir: directory of the run; that of process 0 is the one that counts.
        signals: what asks a process that is alone to end.

    Returns:
        Scores of each kind of mask on the validation set, by step; empty without one, where the
        run was complete already, and in all processes but the first.

    Raises:
        ValueError: if the configuration is wrong, not that of the run in ``workdir``, or not the
            same in all processes; if another process trains in ``workdir``, or the checkpoints of
            its run are damaged or gone.
        FileNotFoundError: if images or weights are missing.
        NoReadableImageError: if no training image can be read.
        UnhealthyRunError: if the loss is no longer finite or the masks have collapsed. The last
            good checkpoint stays.
        StoppedRunError: if this process, or one of several, was told to end; what is done is kept.
        WriteError: if ``workdir`` cannot be written to. Older checkpoints stay.
    """
    check_config(config)
    if config.distributed and not jax.distributed.is_initialized():
        raise ValueError(
            "config.distributed is set and this process is alone: call train within "
            "sempart_jax.distributed.joined"
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
    fingerprints = {}
    images: ImageSource
    if config.pseudo_masks:
        images = masked = open_pseudo_masks(config.data.train, config.pseudo_masks)
        fingerprints["pseudo-masks"] = masked.mask_fingerprint()
    else:
        images = open_images(config.data.train)
    fingerprints["training images"] = fingerprint(images.names)
    count = len(images.names)
    last_step = config.steps or math.ceil(config.epochs * count / config.batch_size)
    experiment = build_experiment(config, last_step)
    if experiment.load_encoder is None:
        fingerprints["backbone weights"] = fingerprint_params(experiment.frozen_params)
    distributed.check_agreement(_shared_fields(config) | fingerprints)
    # From the host to the devices once, for the steps and for what is shown of them.
    frozen_params = replicate(experiment.frozen_params)
    writer = distributed.is_writer()
    with contextlib.ExitStack() as stack:
        state = experiment.empty_state(config.data.image_size)
        if writer:
            stack.enter_context(locked(workdir))
            register_run(workdir, config, fingerprints, last_step=last_step)
            checkpoints = stack.enter_context(Checkpoints(workdir, keep=config.checkpoint.keep))
            best = stack.enter_context(Checkpoints(workdir, name="best", keep=1, best=True))
            resumed = checkpoints.resume(state)
            if resumed is None:
                check_nothing_lost(workdir)
                resumed = experiment.initial_state(config.seed, config.data.image_size)
            else:
                note_kept_step(workdir, int(resumed.step))
            state = resumed
        state = distributed.broadcast_from_writer(state)
        first_step = int(state.step)
        log: TrainingLog | SilentLog = SilentLog(jax.process_index())
        recorder = None
        if writer:
            log = training_log = stack.enter_context(
                TrainingLog(
                    workdir,
                    first_step=first_step,
                    last_step=last_step,
                    batch_size=config.batch_size,
                )
            )
            log.say(
                f"{count} images, {config.backbone.name}, steps {first_step} to {last_step} of "
                f"{config.batch_size} images, on {_describe_devices()}"
            )
            recorder = RunRecorder(
                config,
                experiment,
                frozen_params,
                workdir=workdir,
                images=images,
                checkpoints=checkpoints,
                best=best,
                log=training_log,
            )
        run = TrainingRun(
            config,
            experiment,
            state,
            frozen_params,
            images=images,
            log=log,
            recorder=recorder,
            signals=signals,
        )
        run.to_end(last_step)
        return {} if recorder is None else recorder.validations


def _shared_fields(config: ConfigDict) -> dict[str, object]:
    return {
        f"config.{field}": value
        for field, value in flatten(config).items()
        if field not in PROCESS_FIELDS
    }


def _describe_devices() -> str:
    devices, processes = jax.devices(), jax.process_count()
    described = f"{len(devices)} x {devices[0].device_kind}"
    return described if processes == 1 else f"{described} in {processes} processes"


_CONFIG = config_flags.DEFINE_config_file("config", help_string="Experiment: configs/NAME.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; runs/NAME by default.")


def _main() -> None:
    config = _CONFIG.value
    experiment_file = Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    workdir = Path(_WORKDIR.value or Path("runs") / experiment_file.stem)
    check_config(config)
    try:
        if not config.distributed:
            signals = StopSignals()
            with signals.noticed():
                train(config, workdir, signals)
        else:
            with distributed.joined(
                config.coordinator_address, config.num_processes, config.process_id
            ):
                train(config, workdir)
                if not distributed.is_writer():
                    return
    except StoppedRunError as stopped:
        print(f"stopped: {stopped}")
        sys.exit(stopped.exit_status)
    except WriteError as error:
        sys.exit(
            f"error: {error}. Once it can be written, the same command continues the run from its "
            "last checkpoint"
        )
    print(f"the run is in {workdir}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    command_line.run(_main)
