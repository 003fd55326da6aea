"""Panels and validation scores of a network that learns to segment."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from sempart_jax.data.folder import find_pairs
from sempart_jax.data.image_sources import ImageSource
from sempart_jax.data.samples import read_samples
from sempart_jax.evaluation.results import CENTRE_BOX, Validations
from sempart_jax.evaluation.validation import validate
from sempart_jax.predict.predictor import (
    AnySizePredictor,
    Predictor,
    panel_columns,
    trained_variables,
)
from sempart_jax.report.panels import draw_panel
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.runs.experiment import Experiment
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.recorder import RunRecorder, in_parts
from sempart_jax.two_tricks.interfaces import Variables
from sempart_jax.two_tricks.objective import SempartObjective
from sempart_jax.two_tricks.train_step import TrainState, unreplicate

_VALIDATED_MASKS = {"none": "fine", "guided": "refined", CENTRE_BOX: CENTRE_BOX}
"""Name in the log of each post-processing, and of the box that they are compared with."""


class SegmentationRecorder(RunRecorder[TrainState]):
    """Draws masks of a few training images, and scores those of the validation set."""

    def __init__(
        self,
        config: ConfigDict,
        experiment: Experiment,
        replicated_frozen_params: Variables,
        *,
        workdir: Path,
        images: ImageSource,
        checkpoints: Checkpoints,
        best: Checkpoints,
        log: TrainingLog,
    ) -> None:
        """Read the images of the panels and find those of the validation.

        Args:
            config: configuration of the run.
            experiment: what is trained.
            replicated_frozen_params: parameters that are not trained, on all local devices.
            workdir: directory of the run.
            images: training images, of which panels show some.
            checkpoints: where the newest states go.
            best: where the best goes.
            log: where panels and scores go.
        """
        super().__init__(config, workdir, checkpoints)
        self._experiment, self._best, self._log = experiment, best, log
        self._predictor = Predictor(experiment.network, replicated_frozen_params)
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
        self.validations: Validations = {}

    def draw_panel(self, step: int, state: TrainState) -> None:
        """Draw the masks of a few training images, see :class:`RunRecorder`."""
        if len(self._samples.image) == 0:
            return
        objective, size = self._experiment.objective, self._config.data.image_size
        crop_size, filtered = None, False
        if isinstance(objective, SempartObjective) and objective.crop_fraction is not None:
            crop_size, filtered = objective.crop_size(size, size), objective.filtered_teacher
        columns = panel_columns(
            self._predictor,
            trained_variables(state),
            self._samples.image,
            pseudo_masks=self._samples.mask,
            crop_size=crop_size,
            filtered_teacher=filtered,
        )
        self._log.panel(step, draw_panel(columns))

    def validate(self, step: int, state: TrainState, between_parts: Callable[[], None]) -> None:
        """Score the validation set and keep the checkpoint if its fine mask is the best so far."""
        if not self._validation_pairs:
            return
        predictor = AnySizePredictor(
            self._predictor,
            trained_variables(state),
            short_side=self._config.data.image_size,
            patch_size=self._experiment.network.patch_size,
        )
        scored = validate(
            self._validation_pairs,
            in_parts(predictor, predictor.batch_size, between_parts),
            foreground_rule=self._config.validation.foreground_rule,
            resize_size=self._config.data.resize_size,
            crop_size=self._config.data.image_size,
            postprocessings=("none", "guided"),
        )
        scores = {_VALIDATED_MASKS[name]: result for name, result in scored.items()}
        values = {f"iou {name}": score.iou for name, score in scores.items()}
        self._log.scalars(step, values, "validation")
        listed = ", ".join(f"{name} {score.iou:.4f}" for name, score in scores.items())
        self._log.say(f"step {step}, validation IoU: {listed}")
        self._best.save(unreplicate(state), score=scores["fine"].iou)
        self.validations[step] = scores
