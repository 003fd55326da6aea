"""The pretraining of a backbone by DINO, as the training loop sees it."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from sempart_jax.baselines.by_name import METHODS
from sempart_jax.data.image_sources import ImageSource
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.validation import validate
from sempart_jax.kernels.normalization import normalize
from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks.model_format import BACKBONE, Description, write_tensors
from sempart_jax.networks.pretrained import BACKBONE_FILE, create_backbone
from sempart_jax.networks.projection_head import ProjectionHead
from sempart_jax.predict.method_step import MethodStep
from sempart_jax.report.panels import draw_panel
from sempart_jax.training.dino_optimizer import dino_optimizer, dino_schedules
from sempart_jax.training.dino_step import DinoState, create_dino_state, make_dino_step
from sempart_jax.training.health import CollapseMonitor
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.multi_crop import Crops, MultiCrop, multi_crop_batch
from sempart_jax.training.task import TrainingTask, read_views
from sempart_jax.two_tricks.augment import Augmentation
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.train_step import Metrics, unreplicate, zero_state


class PretrainingTask(TrainingTask[DinoState]):
    """DINO (arXiv 2104.14294) for a vision transformer."""

    def __init__(self, config: ConfigDict, images: ImageSource, last_step: int) -> None:
        """Build what the configuration names."""
        self.described = f"DINO of {config.backbone.name}"
        self._config, self._images = config, images

        def steps(field: str, epochs: float) -> int:
            count = round(epochs * len(images.names) / config.batch_size)
            if count > last_step:
                raise ValueError(
                    f"config.{field}={epochs:g} epochs are {count} steps, but the run has only "
                    f"{last_step}: reduce this field, or make the run longer"
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

    def open_views(self) -> None:
        """Read the images of the panels and find those of the validation."""
        config, backbone = self._config, self._backbone
        samples, self._pairs = read_views(config, self._images)
        self._samples = samples.image

        def class_attention(params: Any, image: Array) -> Array:
            output: Any = backbone.apply({"params": params}, normalize(image), class_attention=True)
            return jnp.asarray(output["class_attention"])

        self._class_attention = jax.jit(class_attention)
        self._tokencut = MethodStep(METHODS["tokencut"], backbone)

    def write_export(self, state: DinoState, workdir: Path) -> None:
        """Write the teacher's backbone as a file, see :class:`TrainingTask`."""
        description = Description(
            backbone=self._config.backbone.name,
            patch_size=self._backbone.patch_size,
            origin=f"pretrained here, step {int(state.step)}",
            short_side=self._config.crops.global_size,
            compute_dtype=self._config.backbone.dtype,
        )
        tensors = flatten(state.teacher["backbone"], BACKBONE)
        write_tensors(workdir / BACKBONE_FILE, description, tensors)

    def draw_panel(self, step: int, state: DinoState, log: TrainingLog) -> None:
        """Draw the crops once and the class token's attention, see :class:`TrainingTask`."""
        if len(self._samples) == 0:
            return
        if step == 0:
            self._draw_crops(log)
        image = self._samples.astype(np.float32) / 255
        rows = np.asarray(self._class_attention(_teacher(state), image))
        side = self._samples.shape[1] // self._backbone.patch_size
        log.panel(step, draw_panel(attention_columns(self._samples, rows, side)))

    def _draw_crops(self, log: TrainingLog) -> None:
        """Draw what the student is shown of the fixed images; a mistake in it is seen at once."""
        keys = jax.random.split(jax.random.key(self._config.seed), len(self._samples))
        crops = jax.device_get(jax.jit(self._multi_crop)(keys, self._samples))
        log.panel(0, draw_panel(crop_columns(self._samples, crops)), once="crops")

    def validate(self, step: int, state: DinoState) -> tuple[dict[str, float], float | None]:
        """Score TokenCut on the teacher; nothing is chosen by it."""
        if not self._pairs:
            return {}, None
        scores = validate(
            self._pairs,
            self._tokencut.predictor(_teacher(state), short_side=self._config.data.image_size),
            foreground_rule="none",  # TokenCut chooses its side itself
            resize_size=self._config.data.resize_size,
            crop_size=self._config.data.image_size,
            postprocessings=("none",),
        )
        return {"tokencut": scores["none"].iou, CENTRE_BOX: scores[CENTRE_BOX].iou}, None


def _crops(config: ConfigDict) -> MultiCrop:
    crops, augmentation = config.crops, config.augmentation.to_dict()
    sigma = (augmentation.pop("smallest_blur"), augmentation.pop("largest_blur"))
    return MultiCrop(
        global_size=crops.global_size,
        local_size=crops.local_size,
        local_crops=crops.local_count,
        global_area=(crops.global_smallest_area, 1.0),
        local_area=(crops.local_smallest_area, crops.local_largest_area),
        solarize_probability=augmentation.pop("solarize_probability"),
        augmentation=Augmentation(blur_sigma=sigma, **augmentation),
    )


def crop_columns(
    images: UInt8[np.ndarray, "B S S 3"], crops: Crops
) -> dict[str, Float[np.ndarray, "B _ _ 3"]]:
    """Lay the crops of images out as a panel."""
    columns = {"image": images.astype(np.float32) / 255}
    columns |= {f"global {number}": crop for number, crop in enumerate(crops.global_, 1)}
    columns |= {f"local {number}": crop for number, crop in enumerate(crops.local, 1)}
    return columns


def attention_columns(
    images: UInt8[np.ndarray, "B S S 3"], rows: Float[np.ndarray, "B heads N1"], side: int
) -> dict[str, Float[np.ndarray, "B _ _ _"]]:
    """Turn the class token's attention into pictures.

    Args:
        images: RGB images.
        rows: the class token's row of the attention, itself first.
        side: rows and columns of the patches.

    Returns:
        Columns of a panel: images, mean over the heads, and each head; every map reaches from
        0 to 1, for attention is spread over more patches the more there are.
    """
    maps = rows[:, :, 1:].reshape(*rows.shape[:2], side, side)
    columns = {"image": images.astype(np.float32) / 255}
    named = {"mean of heads": maps.mean(axis=1)}
    named |= {f"head {head + 1}": maps[:, head] for head in range(maps.shape[1])}
    for title, each in named.items():
        # float32 cannot tell a uniform map from a flat one exactly
        largest = np.maximum(each.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
        columns[title] = (each / largest)[..., None]
    return columns


def _teacher(state: DinoState) -> Any:
    return unreplicate(state.teacher["backbone"])
