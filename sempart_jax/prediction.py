"""Predict masks for host arrays in batches of one fixed shape."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.models.segmenter import Segmenter, Variables
from sempart_jax.multiscale import crop_and_zoom
from sempart_jax.train_step import TrainState, make_predict_step, shard

MASK_NAMES = ("coarse", "fine", "refined")


class Predictor:
    """The network with one set of variables, from uint8 images to soft masks on the host."""

    def __init__(self, segmenter: Segmenter, replicated_backbone_params: Any) -> None:
        """Prepare the prediction step; it compiles at the first call of each image size.

        Args:
            segmenter: network.
            replicated_backbone_params: frozen parameters on all devices.
        """
        self._step = make_predict_step(segmenter)
        self._backbone_params = replicated_backbone_params

    def __call__(
        self,
        replicated_head_variables: Variables,
        images: UInt8[np.ndarray, "B H W 3"] | Float[np.ndarray, "B H W 3"],
        batch_size: int,
    ) -> dict[str, Float[np.ndarray, "B _ _"]]:
        """Predict.

        Args:
            replicated_head_variables: ``{"params", "batch_stats"}`` on all devices.
            images: RGB, uint8 or float in [0, 1], sides divisible by the patch.
            batch_size: images that are processed together; fewer are padded to it, so that the
                last batch of a data set does not compile anew.

        Returns:
            Masks by :data:`MASK_NAMES`: ``coarse`` ``[B, h, w]``, ``fine`` and ``refined``
            ``[B, H, W]``, in [0, 1].
        """
        devices = jax.local_device_count()
        size = -(-batch_size // devices) * devices
        scale = 255 if images.dtype == np.uint8 else 1
        parts: dict[str, list[np.ndarray]] = {name: [] for name in MASK_NAMES}
        for start in range(0, len(images), size):
            part = images[start : start + size].astype(np.float32) / scale
            missing = size - len(part)
            padded = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0)))
            masks = self._step(
                self._backbone_params, replicated_head_variables, shard(padded, devices)
            )
            for name in MASK_NAMES:
                mask = np.asarray(getattr(masks, name))[..., 0]
                parts[name].append(mask.reshape(size, *mask.shape[2:])[: size - missing])
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def head_variables(replicated_state: TrainState) -> Variables:
    """Take from a training state what prediction needs."""
    return {"params": replicated_state.params, "batch_stats": replicated_state.batch_stats}


def panel_columns(
    predictor: Predictor,
    replicated_head_variables: Variables,
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    crop_size: tuple[int, int] | None,
    filtered_teacher: bool,
) -> dict[str, np.ndarray]:
    """Predict the columns of a training panel.

    Args:
        predictor: network.
        replicated_head_variables: ``{"params", "batch_stats"}`` on all devices.
        images: RGB images.
        crop_size: height and width in pixels of the region that the teacher zooms into, here the
            middle of each image; ``None`` without trick 2.
        filtered_teacher: whether the teacher's target is filtered.

    Returns:
        Title to images or masks ``[B, h, w, 3 or 1]`` in [0, 1].
    """
    image = images.astype(np.float32) / 255
    masks = predictor(replicated_head_variables, image, len(image))
    columns = {
        "image": image,
        "coarse": masks["coarse"][..., None],
        "fine": masks["fine"][..., None],
        "fine, guided filter": masks["refined"][..., None],
    }
    if crop_size is not None:
        corner = [(image.shape[1] - crop_size[0]) // 2, (image.shape[2] - crop_size[1]) // 2]
        corners = jnp.broadcast_to(jnp.asarray(corner, jnp.int32), (len(image), 2))
        zoomed = np.asarray(crop_and_zoom(jnp.asarray(image), corners, *crop_size))
        teacher = predictor(replicated_head_variables, zoomed, len(zoomed))
        columns["crop, zoomed"] = zoomed
        columns["teacher target"] = teacher["refined" if filtered_teacher else "fine"][..., None]
    return columns
