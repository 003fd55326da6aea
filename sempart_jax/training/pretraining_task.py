"""The pretraining of a backbone by DINO, as the training loop sees it."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
from ml_collections import ConfigDict

from sempart_jax.data.image_sources import ImageSource
from sempart_jax.networks.pretrained import create_backbone
from sempart_jax.networks.projection_head import ProjectionHead
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.training.collapse import CollapseMonitor
from sempart_jax.training.dino_step import DinoState, create_dino_state, make_dino_step
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.multi_crop import MultiCrop, multi_crop_batch
from sempart_jax.training.optimizer import dino_optimizer
from sempart_jax.training.pretraining_recorder import PretrainingRecorder
from sempart_jax.training.schedules import dino_schedules
from sempart_jax.training.task import TrainingTask
from sempart_jax.two_tricks.objective_base import Examples
from sempart_jax.two_tricks.train_step import Metrics, zero_state


class PretrainingTask(TrainingTask[DinoState]):
    """DINO (arXiv 2104.14294) for a vision transformer."""

    def __init__(self, config: ConfigDict, images: ImageSource, last_step: int) -> None:
        """Build what the configuration names.

        Args:
            config: checked configuration.
            images: training images.
            last_step: steps at the end of the run.

        Raises:
            ValueError: if the learning rate warms up for longer than the run.
        """
        self.described = f"DINO of {config.backbone.name}"
        self._config, self._images = config, images

        def steps(field: str, epochs: float) -> int:
            count = round(epochs * len(images.names) / config.batch_size)
            if count > last_step:
                raise ValueError(
                    f"config.{field}={epochs:g} epochs are {count} steps, and the run has "
                    f"{last_step}: shorten them, or lengthen the run"
                )
            return count

        dtype = jnp.dtype(config.backbone.dtype)
        backbone = create_backbone(config.backbone.name, dtype)
        self._backbone = backbone.clone(
            trained_grid=config.crops.global_size // backbone.patch_size
        )
        self._head = ProjectionHead(
            out_dim=config.head.outputs,
            hidden=config.head.hidden,
            bottleneck=config.head.bottleneck,
            dtype=dtype,
        )
        optimizer, dino = config.optimizer, config.dino
        warmup_steps = steps("optimizer.warmup_epochs", optimizer.warmup_epochs)
        schedules = dino_schedules(
            total_steps=last_step,
            batch_size=config.batch_size,
            warmup_steps=warmup_steps,
            temperature_warmup_steps=steps(
                "dino.teacher_temperature_epochs", dino.teacher_temperature_epochs
            ),
            learning_rate_per_256=optimizer.learning_rate,
            final_learning_rate=optimizer.final_learning_rate,
            weight_decay=optimizer.weight_decay,
            final_weight_decay=optimizer.final_weight_decay,
            teacher_momentum=dino.teacher_momentum,
            teacher_temperature=dino.teacher_temperature,
            first_teacher_temperature=dino.first_teacher_temperature,
        )
        frozen_epochs = optimizer.frozen_last_layer_epochs
        self._optimizer = dino_optimizer(
            schedules.learning_rate,
            schedules.weight_decay,
            freeze_steps=steps("optimizer.frozen_last_layer_epochs", frozen_epochs),
            clip_norm=optimizer.clip_norm,
        )
        self._multi_crop = functools.partial(multi_crop_batch, settings=_crops(config))
        self._step = make_dino_step(
            self._backbone,
            self._head,
            self._optimizer,
            multi_crop=self._multi_crop,
            schedules=schedules,
            seed=config.seed,
            drop_path=config.backbone.drop_path,
            student_temperature=dino.student_temperature,
            center_momentum=dino.center_momentum,
            accumulation=config.accumulation,
        )
        self._health = CollapseMonitor(
            config.head.outputs,
            collapse_steps=config.health.collapse_steps,
            first_step=warmup_steps,
        )

    def empty_state(self) -> DinoState:
        """Return a state of zeros, see :class:`TrainingTask`."""
        state: DinoState = zero_state(self.initial_state)
        return state

    def initial_state(self) -> DinoState:
        """Draw the state of step 0, see :class:`TrainingTask`."""
        return create_dino_state(
            self._backbone, self._head, self._optimizer, seed=self._config.seed
        )

    def take_step(self, state: DinoState, examples: Examples) -> tuple[DinoState, Metrics]:
        """Take a step, see :class:`TrainingTask`."""
        return self._step(state, examples.image)

    def check_health(self, step: int, metrics: dict[str, float]) -> None:
        """Look for NaN and for a collapsed teacher, see :class:`TrainingTask`."""
        self._health.check(step, metrics)

    @contextlib.contextmanager
    def recorder(
        self, workdir: Path, checkpoints: Checkpoints, log: TrainingLog
    ) -> Iterator[PretrainingRecorder]:
        """Open panels, validation and the file of the backbone, see :class:`TrainingTask`."""
        yield PretrainingRecorder(
            self._config,
            self._backbone,
            self._multi_crop,
            workdir=workdir,
            images=self._images,
            checkpoints=checkpoints,
            log=log,
        )


def _crops(config: ConfigDict) -> MultiCrop:
    crops, augmentation = config.crops, config.augmentation.to_dict()
    sigma = (augmentation.pop("smallest_blur"), augmentation.pop("largest_blur"))
    return MultiCrop(
        global_size=crops.global_size,
        local_size=crops.local_size,
        local_crops=crops.local_count,
        global_area=(crops.global_smallest_area, 1.0),
        local_area=(crops.local_smallest_area, crops.local_largest_area),
        blur_sigma=sigma,
        **augmentation,
    )
