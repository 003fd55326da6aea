"""A network that learns to segment, as the training loop sees it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from sempart_jax.data.image_sources import ImageSource
from sempart_jax.evaluation.results import Validations
from sempart_jax.runs.checkpoints import Checkpoints, fingerprint_params
from sempart_jax.runs.experiment import build_experiment
from sempart_jax.training.health import HealthMonitor
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.segmentation_recorder import SegmentationRecorder
from sempart_jax.training.task import TrainingTask
from sempart_jax.two_tricks.objective_base import Examples
from sempart_jax.two_tricks.train_step import Metrics, TrainState, make_train_step, replicate


class SegmentationTask(TrainingTask[TrainState]):
    """Sempart, FOUND's decoder or SelfMask.

    Attributes:
        weights_fingerprint: hash of the frozen parameters; ``None`` where all are trained.
        validations: see :class:`SegmentationRecorder`; empty until it is opened.
    """

    def __init__(self, config: ConfigDict, images: ImageSource, last_step: int) -> None:
        """Build what the configuration names, and load the weights of a frozen backbone.

        Args:
            config: checked configuration.
            images: training images.
            last_step: steps at the end of the run.

        Raises:
            ValueError: as ``build_experiment`` raises.
            FileNotFoundError: if the frozen backbone's weights cannot be had.
        """
        self.described = config.backbone.name
        self.validations: Validations = {}
        self._config, self._images = config, images
        self._experiment = experiment = build_experiment(config, last_step)
        is_frozen = experiment.load_encoder is None
        self.weights_fingerprint = (
            fingerprint_params(experiment.frozen_params) if is_frozen else None
        )
        self._step = make_train_step(
            experiment.network,
            experiment.objective,
            experiment.optimizer,
            seed=config.seed,
            augmentation=experiment.augmentation,
            accumulation=config.accumulation,
        )
        self._health = HealthMonitor(
            config.health.collapse_steps,
            config.health.lowest_mean_mask,
            config.health.highest_mean_mask,
        )
        # From the host to the devices once, for the steps and for what is shown of them.
        self._frozen_params = replicate(experiment.frozen_params)

    def empty_state(self) -> TrainState:
        """Return a state of zeros, see :class:`TrainingTask`."""
        return self._experiment.empty_state(self._config.data.image_size)

    def initial_state(self) -> TrainState:
        """Draw the state of step 0, see :class:`TrainingTask`."""
        return self._experiment.initial_state(self._config.seed, self._config.data.image_size)

    def take_step(self, state: TrainState, examples: Examples) -> tuple[TrainState, Metrics]:
        """Take a step, see :class:`TrainingTask`."""
        return self._step(state, self._frozen_params, examples)

    def check_health(self, step: int, metrics: dict[str, float]) -> None:
        """Look for NaN and for collapsed masks, see :class:`TrainingTask`."""
        self._health.check(step, metrics)

    @contextlib.contextmanager
    def recorder(
        self, workdir: Path, checkpoints: Checkpoints, log: TrainingLog
    ) -> Iterator[SegmentationRecorder]:
        """Open panels, validation and the best checkpoint, see :class:`TrainingTask`."""
        with Checkpoints(workdir, name="best", keep=1, best=True) as best:
            recorder = SegmentationRecorder(
                self._config,
                self._experiment,
                self._frozen_params,
                workdir=workdir,
                images=self._images,
                checkpoints=checkpoints,
                best=best,
                log=log,
            )
            self.validations = recorder.validations
            yield recorder
