"""A network that learns to segment, as the training loop sees it."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from absl import logging
from jax import Array
from jaxtyping import UInt8
from ml_collections import ConfigDict

from sempart_jax.data.image_sources import ImageSource, read_samples
from sempart_jax.evaluation.results import CENTRE_BOX, Validations
from sempart_jax.evaluation.validation import validate
from sempart_jax.kernels.normalization import from_bytes, normalize
from sempart_jax.kernels.tensor_tree import fingerprint_params
from sempart_jax.networks.names import NO_BACKBONE
from sempart_jax.predict.network_step import NetworkStep
from sempart_jax.predict.predictor import pad_batch
from sempart_jax.report.panels import draw_panel
from sempart_jax.runs.experiment import build_experiment
from sempart_jax.training.health import HealthMonitor, plateau_advice
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.panel_columns import panel_columns
from sempart_jax.training.task import TrainingTask, read_views
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Examples, Variables
from sempart_jax.two_tricks.multiscale import MultiscaleObjective
from sempart_jax.two_tricks.objective import SempartObjective
from sempart_jax.two_tricks.principal import PrincipalForeground, fit_principal_foreground
from sempart_jax.two_tricks.train_step import (
    Metrics,
    TrainState,
    make_train_step,
    replicate,
)

PRINCIPAL_IMAGES = 256
"""Training images whose principal component the coarse mask is drawn towards."""

_VALIDATED_MASKS = {"none": "fine", "guided": "refined", CENTRE_BOX: CENTRE_BOX}
"""Name in the log of each post-processing, and of the box that they are compared with."""


class SegmentationTask(TrainingTask[TrainState]):
    """One of ``networks.names.NETWORKS``.

    Attributes:
        weights_fingerprint: hash of the frozen parameters; ``None`` where there are none.
        validations: scores of each kind of mask on the validation set, by step, so far.
    """

    def __init__(self, config: ConfigDict, images: ImageSource, last_step: int) -> None:
        """Build what the configuration names, and load the weights of a frozen backbone."""
        named = config.backbone.name
        self.described = config.network if named == NO_BACKBONE else named
        self.validations: Validations = {}
        self._config, self._images, self._last_step = config, images, last_step
        self._experiment = experiment = build_experiment(config, last_step)
        frozen_params = experiment.frozen_params
        network, objective = experiment.network, experiment.objective
        if (
            isinstance(network, HeadNetwork)
            and isinstance(objective, SempartObjective)
            and objective.weights.principal
        ):
            samples = read_samples(
                images,
                PRINCIPAL_IMAGES,
                image_size=config.data.image_size,
                resize_size=None,
            )
            principal = _principal_foreground(network, frozen_params, samples.image)
            objective = dataclasses.replace(objective, principal=principal)
        self.weights_fingerprint = fingerprint_params(frozen_params) if frozen_params else None
        self._step = make_train_step(
            experiment.network,
            objective,
            experiment.optimizer,
            seed=config.seed,
            augmentation=experiment.augmentation,
            accumulation=config.accumulation,
            average_decay=experiment.average_decay,
        )
        self._health = HealthMonitor(
            config.health.collapse_steps,
            config.health.lowest_mean_mask,
            config.health.highest_mean_mask,
        )
        # From the host to the devices once, for the steps and for what is shown of them.
        self._frozen_params = replicate(frozen_params)

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

    def open_views(self) -> None:
        """Read the images of the panels, see :class:`TrainingTask`."""
        self._network_step = NetworkStep(self._experiment.network, self._frozen_params)
        self._samples, self._validation_pairs = read_views(self._config, self._images)

    def draw_panel(self, step: int, state: TrainState, log: TrainingLog) -> None:
        """Draw the masks of a few training images, see :class:`TrainingTask`."""
        if len(self._samples.image) == 0:
            return
        objective, size = self._experiment.objective, self._config.data.image_size
        crop_size, filtered = None, False
        if isinstance(objective, MultiscaleObjective) and objective.crop_fraction is not None:
            crop_size, filtered = objective.crop_size(size, size), objective.filtered_teacher
        columns = panel_columns(
            self._network_step,
            state.variables,
            self._samples.image,
            pseudo_masks=self._samples.mask,
            crop_size=crop_size,
            filtered_teacher=filtered,
        )
        log.panel(step, draw_panel(columns))

    def validate(self, step: int, state: TrainState) -> tuple[dict[str, float], float | None]:
        """Score the masks of the validation set; the fine mask's IoU chooses the best state."""
        if not self._validation_pairs:
            return {}, None
        predictor = self._network_step.predictor(
            state.variables, short_side=self._config.data.image_size
        )
        scored = validate(
            self._validation_pairs,
            predictor,
            foreground_rule=self._config.validation.foreground_rule,
            resize_size=self._config.data.resize_size,
            crop_size=self._config.data.image_size,
            postprocessings=("none", "guided"),
        )
        scores = {_VALIDATED_MASKS[name]: result for name, result in scored.items()}
        self.validations[step] = scores
        return {name: score.iou for name, score in scores.items()}, scores["fine"].iou

    def advise(self, first_step: int, rows: Sequence[dict[str, float]]) -> str | None:
        """Say what helps a Sempart that has not left the plateau of the N-cut."""
        if "ncut" not in rows[0]:
            return None
        return plateau_advice(first_step, [row["ncut"] for row in rows], self._last_step)


def _principal_foreground(
    network: HeadNetwork, frozen_params: Variables, images: UInt8[np.ndarray, "N H W 3"]
) -> PrincipalForeground:
    """Fit the principal component of images; ValueError if there is none, or there are no images.

    Every process of a run fits that of the same images, and a resumed run fits it again.
    """
    if not len(images):
        raise ValueError("loss.weights.principal needs training images, and none can be read")
    logging.info("fitting the principal component of the features of %d images", len(images))

    @jax.jit
    def features(frozen_params: Variables, image: Array) -> Array:
        return network.features(frozen_params, normalize(from_bytes(image)))["keys"]

    found = []
    for first in range(0, len(images), 8):
        batch = images[first : first + 8]
        found.append(np.asarray(features(frozen_params, pad_batch(batch, 8)))[: len(batch)])
    return fit_principal_foreground(np.concatenate(found))
