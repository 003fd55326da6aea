"""Records of a pretraining: crops, attention, TokenCut's score, and the backbone as a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from sempart_jax.data.folder import find_pairs
from sempart_jax.data.image_sources import ImageSource
from sempart_jax.data.samples import read_samples
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.validation import validate
from sempart_jax.kernels.normalization import normalize
from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks.model_format import BACKBONE, Description, write_tensors
from sempart_jax.networks.pretrained import BACKBONE_FILE
from sempart_jax.predict.method_predictor import MethodPredictor
from sempart_jax.predict.methods import METHODS
from sempart_jax.report.panels import draw_panel
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.training.dino_step import DinoState
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.multi_crop import Crops
from sempart_jax.training.recorder import RunRecorder, in_parts
from sempart_jax.two_tricks.train_step import unreplicate
from sempart_jax.two_tricks.vit import VisionTransformer


class PretrainingRecorder(RunRecorder[DinoState]):
    """Looks at the teacher, whose backbone is what is kept: it is better than the student's."""

    def __init__(
        self,
        config: ConfigDict,
        backbone: VisionTransformer,
        multi_crop: Callable[[Array, Array], Crops],
        *,
        workdir: Path,
        images: ImageSource,
        checkpoints: Checkpoints,
        log: TrainingLog,
    ) -> None:
        """Read the images of the panels and find those of the validation.

        Args:
            config: configuration of the run.
            backbone: what is pretrained.
            multi_crop: draws the crops, from keys ``[B]`` and uint8 images ``[B, S, S, 3]``.
            workdir: directory of the run.
            images: training images, of which panels show some.
            checkpoints: where states go.
            log: where panels and scores go.
        """
        super().__init__(config, workdir, checkpoints)
        self._backbone, self._log = backbone, log
        self._multi_crop = multi_crop
        self._samples = read_samples(
            images,
            config.log.panel_images,
            image_size=config.data.image_size,
            resize_size=config.data.resize_size,
        ).image
        self._pairs = (
            find_pairs(config.validation.images, config.validation.masks)
            if config.validation.images
            else []
        )

        def class_attention(params: Any, image: Array) -> Array:
            output: Any = backbone.apply({"params": params}, normalize(image), class_attention=True)
            return jnp.asarray(output["class_attention"])

        self._class_attention = jax.jit(class_attention)
        self._tokencut = MethodPredictor(
            METHODS["tokencut"], backbone, None, short_side=config.data.image_size
        )

    def write_export(self, state: DinoState) -> None:
        """Write the teacher's backbone as a file, see :class:`RunRecorder`."""
        description = Description(
            backbone=self._config.backbone.name,
            patch_size=self._backbone.patch_size,
            origin=f"pretrained here, step {int(state.step)}",
            short_side=self._config.crops.global_size,
            compute_dtype=self._config.backbone.dtype,
        )
        tensors = flatten(state.teacher["backbone"], BACKBONE)
        write_tensors(self._workdir / BACKBONE_FILE, description, tensors)

    def draw_panel(self, step: int, state: DinoState) -> None:
        """Draw the crops once and the class token's attention, see :class:`RunRecorder`."""
        if len(self._samples) == 0:
            return
        if step == 0:
            self._draw_crops()
        image = self._samples.astype(np.float32) / 255
        rows = np.asarray(self._class_attention(_teacher(state), image))
        side = self._samples.shape[1] // self._backbone.patch_size
        self._log.panel(step, draw_panel(attention_columns(self._samples, rows, side)))

    def _draw_crops(self) -> None:
        """Draw what the student is shown of the fixed images; a mistake in it is seen at once."""
        keys = jax.random.split(jax.random.key(self._config.seed), len(self._samples))
        crops = jax.device_get(jax.jit(self._multi_crop)(keys, self._samples))
        self._log.panel(0, draw_panel(crop_columns(self._samples, crops)), once="crops")

    def validate(self, step: int, state: DinoState, between_parts: Callable[[], None]) -> None:
        """Score TokenCut on the teacher; nothing is chosen by it."""
        if not self._pairs:
            return
        predictor = self._tokencut.with_params(_teacher(state))
        scores = validate(
            self._pairs,
            in_parts(predictor, predictor.batch_size, between_parts),
            foreground_rule="none",  # TokenCut chooses its side itself
            resize_size=self._config.data.resize_size,
            crop_size=self._config.data.image_size,
            postprocessings=("none",),
        )
        values = {
            "iou tokencut": scores["none"].iou,
            f"iou {CENTRE_BOX}": scores[CENTRE_BOX].iou,
        }
        self._log.scalars(step, values, "validation")
        listed = ", ".join(f"{name.removeprefix('iou ')} {x:.4f}" for name, x in values.items())
        self._log.say(f"step {step}, validation IoU: {listed}")


def crop_columns(
    images: UInt8[np.ndarray, "B S S 3"], crops: Crops
) -> dict[str, Float[np.ndarray, "B _ _ 3"]]:
    """Lay the crops of images out as a panel.

    Args:
        images: RGB images.
        crops: theirs, before they are normalised.

    Returns:
        Columns: images, then each global and each local crop at its own size.
    """
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
