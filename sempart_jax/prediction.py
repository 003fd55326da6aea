"""Predict masks for host arrays, in batches of few fixed shapes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.input_size import FewShapesPredictor
from sempart_jax.models.mask_network import MaskNetwork, Variables
from sempart_jax.models.network import TrainedNetwork
from sempart_jax.multiscale import crop_and_zoom
from sempart_jax.train_step import TrainState, make_predict_step, replicate, shard

MASK_NAMES = ("coarse", "fine", "refined")


class Predictor:
    """The network with one set of variables, from uint8 images to soft masks on the host."""

    def __init__(self, network: MaskNetwork, replicated_frozen_params: Any) -> None:
        """Prepare the prediction step; it compiles at the first call of each image size.

        Args:
            network: network.
            replicated_frozen_params: parameters that are not trained, on all devices.
        """
        self._step = make_predict_step(network)
        self._frozen_params = replicated_frozen_params

    def __call__(
        self,
        replicated_variables: Variables,
        images: UInt8[np.ndarray, "B H W 3"] | Float[np.ndarray, "B H W 3"],
        batch_size: int,
    ) -> dict[str, Float[np.ndarray, "B _ _"]]:
        """Predict.

        Args:
            replicated_variables: ``{"params", "batch_stats"}`` on all devices.
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
            masks = self._step(self._frozen_params, replicated_variables, shard(padded, devices))
            for name in MASK_NAMES:
                mask = np.asarray(getattr(masks, name))[..., 0]
                parts[name].append(mask.reshape(size, *mask.shape[2:])[: size - missing])
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


class AnySizePredictor(FewShapesPredictor):
    """Fine masks of images of any size by a network on all local devices."""

    def __init__(
        self,
        predictor: Predictor,
        replicated_variables: Variables,
        *,
        short_side: int,
        patch_size: int,
        batch_size: int = 8,
        origin: str = "in training",
    ) -> None:
        """Choose the network.

        Args:
            predictor: network.
            replicated_variables: ``{"params", "batch_stats"}`` on all devices.
            short_side: short side in pixels at which it sees an image.
            patch_size: side of the backbone's patches in pixels.
            batch_size: images that are processed together.
            origin: where the network comes from, for an error.
        """
        super().__init__(short_side=short_side, patch_size=patch_size, batch_size=batch_size)
        self._predictor = predictor
        self._variables = replicated_variables
        self._origin = origin

    def predict(self, inputs: UInt8[np.ndarray, "B h w 3"]) -> Float[np.ndarray, "B h w"]:
        """Predict for inputs of one size; fewer than a batch are padded to one.

        Raises:
            ValueError: the network gives masks that are not finite.
        """
        masks = self._predictor(self._variables, inputs, self.batch_size)["fine"]
        if not np.isfinite(masks).all():
            raise ValueError(
                f"the network gives NaN for masks ({self._origin}): its weights are damaged, or "
                "its training has gone wrong. Get the file again, or take another checkpoint"
            )
        return masks


def any_size_predictor(
    network: TrainedNetwork, *, short_side: int | None = None, batch_size: int = 8
) -> AnySizePredictor:
    """Put a trained network on all local devices.

    Args:
        network: backbone and head with their parameters.
        short_side: short side in pixels at which it sees an image; that of its training if None.
        batch_size: images that are processed together.
    """
    return AnySizePredictor(
        Predictor(network.segmenter, replicate(network.frozen_params)),
        replicate(network.variables),
        short_side=network.short_side if short_side is None else short_side,
        patch_size=network.patch_size,
        batch_size=batch_size,
        origin=network.origin,
    )


def trained_variables(replicated_state: TrainState) -> Variables:
    """Take from a training state what prediction needs."""
    return {"params": replicated_state.params, "batch_stats": replicated_state.batch_stats}


def panel_columns(
    predictor: Predictor,
    replicated_variables: Variables,
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    pseudo_masks: UInt8[np.ndarray, "B H W"] | None = None,
    crop_size: tuple[int, int] | None,
    filtered_teacher: bool,
) -> dict[str, np.ndarray]:
    """Predict the columns of a training panel.

    Args:
        predictor: network.
        replicated_variables: ``{"params", "batch_stats"}`` on all devices.
        images: RGB images.
        pseudo_masks: what the network learns from, where it learns from masks.
        crop_size: height and width in pixels of the region that the teacher zooms into, here the
            middle of each image; ``None`` without trick 2.
        filtered_teacher: whether the teacher's target is filtered.

    Returns:
        Title to images or masks ``[B, h, w, 3 or 1]`` in [0, 1].
    """
    image = images.astype(np.float32) / 255
    masks = predictor(replicated_variables, image, len(image))
    columns = {"image": image}
    if pseudo_masks is not None:
        columns["pseudo-mask"] = pseudo_masks[..., None].astype(np.float32) / 255
    columns |= {
        "coarse": masks["coarse"][..., None],
        "fine": masks["fine"][..., None],
        "fine, guided filter": masks["refined"][..., None],
    }
    if crop_size is not None:
        corner = [(image.shape[1] - crop_size[0]) // 2, (image.shape[2] - crop_size[1]) // 2]
        corners = jnp.broadcast_to(jnp.asarray(corner, jnp.int32), (len(image), 2))
        zoomed = np.asarray(crop_and_zoom(jnp.asarray(image), corners, *crop_size))
        teacher = predictor(replicated_variables, zoomed, len(zoomed))
        columns["crop, zoomed"] = zoomed
        columns["teacher target"] = teacher["refined" if filtered_teacher else "fine"][..., None]
    return columns
