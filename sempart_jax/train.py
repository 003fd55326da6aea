r"""Train a network on unlabelled images.

    python -m sempart_jax.train --config configs/tricks.py --workdir runs/tricks \
        --config.data.train=data/DUTS

Run the same command again to continue an interrupted run from its last checkpoint.
"""

import contextlib
import math
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from sempart_jax import command_line
from sempart_jax.checkpoints import Checkpoints, fingerprint_params, register_run
from sempart_jax.data.folder import find_pairs
from sempart_jax.data.image_sources import ImageSource, open_images
from sempart_jax.data.labelled import LabelledFolder
from sempart_jax.data.pipeline import Batch, fingerprint, training_batches
from sempart_jax.data.pseudo_masks import open_pseudo_masks
from sempart_jax.data.samples import read_samples
from sempart_jax.default_config import check_config
from sempart_jax.evaluation.masks import NetworkMasks
from sempart_jax.evaluation.protocols import Protocol
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.saliency import saliency_set
from sempart_jax.evaluation.scoring import score
from sempart_jax.experiment import Experiment, build_experiment
from sempart_jax.health import HealthMonitor
from sempart_jax.metrics.saliency import SaliencyResult
from sempart_jax.objectives.base import Examples
from sempart_jax.objectives.sempart import SempartObjective
from sempart_jax.prediction import AnySizePredictor, Predictor, panel_columns, trained_variables
from sempart_jax.report.panels import draw_panel
from sempart_jax.train_step import (
    Metrics,
    TrainState,
    make_train_step,
    replicate,
    shard,
    unreplicate,
)
from sempart_jax.training_log import TrainingLog

_STEPS_IN_FLIGHT = 2
"""Steps that wait on the device; more would only make the progress bar run ahead of it."""

_VALIDATED_MASKS = {"none": "fine", "guided": "refined", CENTRE_BOX: CENTRE_BOX}
"""Name in the log of each post-processing, and of the box that they are compared with."""

Validations = dict[int, dict[str, SaliencyResult]]


class TrainingRun:
    """One run: the state on the devices, and what happens to it every so many steps."""

    def __init__(
        self,
        config: ConfigDict,
        experiment: Experiment,
        state: TrainState,
        *,
        images: ImageSource,
        checkpoints: Checkpoints,
        best: Checkpoints,
        log: TrainingLog,
    ) -> None:
        """Put the parts of a run together, see :func:`train`."""
        self._config, self._experiment, self._images = config, experiment, images
        self._checkpoints, self._best, self._log = checkpoints, best, log
        self._state = replicate(state)
        self._step = int(state.step)
        self._frozen_params = replicate(experiment.frozen_params)
        self._train_step = make_train_step(
            experiment.network,
            experiment.objective,
            experiment.optimizer,
            seed=config.seed,
            augmentation=experiment.augmentation,
        )
        self._predictor = Predictor(experiment.network, self._frozen_params)
        self._health = HealthMonitor(
            config.health.collapse_steps,
            config.health.lowest_mean_mask,
            config.health.highest_mean_mask,
        )
        self._unlogged: list[Metrics] = []
        self._unreadable = 0
        self._clock_started = time.monotonic()
        self._validations: Validations = {}
        self._samples = read_samples(
            images,
            config.log.panel_images,
            image_size=config.data.image_size,
            resize_size=config.data.resize_size,
        )
        self._validation_pairs = (
            find_pairs(config.validation.images, config.validation.masks)
            if config.validation.images
            else []
        )

    def to_end(self, last_step: int) -> Validations:
        """Take all steps that are left.

        Args:
            last_step: steps at the end of the run.

        Returns:
            Scores on the validation set by step; empty without one.
        """
        config = self._config
        if self._step == 0:
            self._draw_panel()
            self._validate()
        with contextlib.closing(
            training_batches(
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
        ) as batches:
            self._clock_started = time.monotonic()
            while self._step < last_step:
                self._take_step(next(batches))
                at_end = self._step == last_step
                save = at_end or self._step % config.checkpoint.every_steps == 0
                if save or self._step % config.log.every_steps == 0:
                    self._log_steps()
                before_pause = time.monotonic()
                if at_end or _is_due(self._step, config.log.panels_every_steps):
                    self._draw_panel()
                if at_end or _is_due(self._step, config.validation.every_steps):
                    self._validate()
                # Last, so that a run killed before it does all of the above again.
                if save:
                    self._checkpoints.save(unreplicate(self._state))
                # The rate of training is not that of drawing and scoring.
                self._clock_started += time.monotonic() - before_pause
        return self._validations

    def _take_step(self, batch: Batch) -> None:
        for path, reason in batch.unreadable:
            self._unreadable += 1
            self._log.say(f"skipped {path}: {reason} ({self._unreadable} unreadable so far)")
        examples = Examples(*shard((batch.image, batch.mask), jax.local_device_count()))
        self._state, metrics = self._train_step(self._state, self._frozen_params, examples)
        self._unlogged.append(metrics)
        if len(self._unlogged) > _STEPS_IN_FLIGHT:
            jax.block_until_ready(self._unlogged[-1 - _STEPS_IN_FLIGHT])
        self._step += 1
        self._log.advance()

    def _log_steps(self) -> None:
        """Check the steps since the last log one by one, and write their mean."""
        rows = [
            {name: float(value[0]) for name, value in metrics.items()}
            for metrics in jax.device_get(self._unlogged)
        ]
        first = self._step - len(rows) + 1
        self._unlogged.clear()
        for offset, row in enumerate(rows):
            self._health.check(first + offset, row)
        mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        seconds = time.monotonic() - self._clock_started
        mean["images_per_second"] = len(rows) * self._config.batch_size / seconds
        self._log.scalars(self._step, mean)
        self._clock_started = time.monotonic()

    def _draw_panel(self) -> None:
        if len(self._samples.image) == 0:
            return
        objective, size = self._experiment.objective, self._config.data.image_size
        crop_size, filtered = None, False
        if isinstance(objective, SempartObjective) and objective.crop_fraction is not None:
            crop_size, filtered = objective.crop_size(size, size), objective.filtered_teacher
        columns = panel_columns(
            self._predictor,
            trained_variables(self._state),
            self._samples.image,
            pseudo_masks=self._samples.mask,
            crop_size=crop_size,
            filtered_teacher=filtered,
        )
        self._log.panel(self._step, draw_panel(columns))

    def _validate(self) -> None:
        """Score the validation set and keep the checkpoint if its fine mask is the best so far."""
        if not self._validation_pairs:
            return
        predictor = AnySizePredictor(
            self._predictor,
            trained_variables(self._state),
            short_side=self._config.data.image_size,
            patch_size=self._experiment.network.patch_size,
        )
        protocol = Protocol(
            "validation",
            self._config.validation.foreground_rule,
            resize_size=self._config.data.resize_size,
            crop_size=self._config.data.image_size,
        )
        scored = score(
            saliency_set(LabelledFolder(self._validation_pairs), protocol),
            NetworkMasks(predictor),
            protocol,
            foreground_rule=protocol.foreground_rule,
            postprocessings=("none", "guided"),
        )
        scores = {
            _VALIDATED_MASKS[name]: scores.compute() for name, scores in scored.tally.scores.items()
        }
        values = {f"iou {name}": score.iou for name, score in scores.items()}
        self._log.scalars(self._step, values, "validation")
        listed = ", ".join(f"{name} {score.iou:.4f}" for name, score in scores.items())
        self._log.say(f"step {self._step}, validation IoU: {listed}")
        self._best.save(unreplicate(self._state), score=scores["fine"].iou)
        self._validations[self._step] = scores


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def train(config: ConfigDict, workdir: Path) -> Validations:
    """Train, or continue to train, to the end of the configured steps.

    Args:
        config: configuration, see ``sempart_jax.default_config``.
        workdir: directory of the run.

    Returns:
        Scores of each kind of mask on the validation set, by step; empty without one, or where
        the run was complete already.

    Raises:
        ValueError: if the configuration is wrong or not that of the run in ``workdir``.
        FileNotFoundError: if images or weights are missing.
        NoReadableImageError: if no training image can be read.
        UnhealthyRunError: if the loss is no longer finite or the masks have collapsed. The last
            good checkpoint stays.
    """
    check_config(config)
    devices = jax.device_count()
    if config.batch_size % devices:
        raise ValueError(
            f"config.batch_size must be a multiple of the number of devices, {devices}, "
            f"got {config.batch_size}"
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
    register_run(workdir, config, fingerprints)
    with (
        Checkpoints(workdir, keep=config.checkpoint.keep) as checkpoints,
        Checkpoints(workdir, name="best", keep=1, best=True) as best,
    ):
        if checkpoints.latest_step is None:
            state = experiment.initial_state(config.seed, config.data.image_size)
        else:
            state = checkpoints.restore(experiment.empty_state(config.data.image_size))
        first_step = int(state.step)
        with TrainingLog(
            workdir, first_step=first_step, last_step=last_step, batch_size=config.batch_size
        ) as log:
            log.say(
                f"{count} images, {config.backbone.name}, steps {first_step} to {last_step} "
                f"of {config.batch_size} images, on {devices} x {jax.devices()[0].device_kind}"
            )
            run = TrainingRun(
                config,
                experiment,
                state,
                images=images,
                checkpoints=checkpoints,
                best=best,
                log=log,
            )
            return run.to_end(last_step)


_CONFIG = config_flags.DEFINE_config_file("config", help_string="Experiment: configs/NAME.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; runs/NAME by default.")


def _main() -> None:
    experiment_file = Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    workdir = Path(_WORKDIR.value or Path("runs") / experiment_file.stem)
    train(_CONFIG.value, workdir)
    print(f"the run is in {workdir}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    command_line.run(_main)
