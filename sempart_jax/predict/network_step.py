"""What a network predicts for batches of images of one size, on all local devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.predict.predictor import Fetch, Predictor, pad_batch
from sempart_jax.two_tricks.interfaces import MaskNetwork, Variables
from sempart_jax.two_tricks.train_step import MASK_NAMES, make_predict_step, shard

HostMasks = dict[str, Float[np.ndarray, "B _ _"]]
"""Masks in [0, 1] by their names."""


def whole_batch(batch_size: int) -> int:
    """Round a batch up to images for each local device alike."""
    devices = jax.local_device_count()
    return -(-batch_size // devices) * devices


class NetworkStep:
    """A network's prediction, from images on the host to soft masks there."""

    def __init__(self, network: MaskNetwork, replicated_frozen_params: Any) -> None:
        """Prepare the step.

        It compiles at the first call of each image size, and once more for other masks, or for
        floats where there were bytes. The parameters that are not trained are on all devices.
        """
        self._network = network
        self._step = make_predict_step(network)
        self._frozen_params = replicated_frozen_params

    def start(
        self,
        replicated_variables: Variables,
        images: UInt8[np.ndarray, "B H W 3"] | Float[np.ndarray, "B H W 3"],
        batch_size: int,
        names: tuple[str, ...] = MASK_NAMES,
    ) -> Callable[[], HostMasks]:
        """Begin to predict for a batch, and return without its masks.

        Args:
            replicated_variables: ``{"params", "batch_stats"}`` on all devices.
            images: a batch at most, uint8, or float in [0, 1], sides divisible by the patch. They
                are not to be changed before the masks are there.
            batch_size: images that are processed together, rounded up by :func:`whole_batch`.
            names: the wanted masks, among :data:`MASK_NAMES`; what serves none is not computed.

        Returns:
            What waits for the masks and gives them by ``names``.
        """
        count, size = len(images), whole_batch(batch_size)
        if count > size:
            raise ValueError(f"{count} images are more than a batch of {size}")
        if images.dtype != np.uint8:
            images = images.astype(np.float32, copy=False)
        sharded = shard(pad_batch(images, size), jax.local_device_count())
        masks = self._step(self._frozen_params, replicated_variables, sharded, names)
        wanted = {name: getattr(masks, name) for name in names}
        for mask in wanted.values():
            mask.copy_to_host_async()

        def fetch() -> HostMasks:
            arrays = {name: np.asarray(mask)[..., 0] for name, mask in wanted.items()}
            return {
                name: array.reshape(size, *array.shape[2:])[:count]
                for name, array in arrays.items()
            }

        return fetch

    def predictor(
        self,
        replicated_variables: Variables,
        *,
        short_side: int,
        batch_size: int = 8,
        origin: str = "in training",
    ) -> Predictor:
        """Give the fine masks of images of any size, seen at a short side of so many pixels.

        ``origin`` is where the network comes from, for the ValueError of masks that are not finite.
        """
        size = whole_batch(batch_size)

        def start(inputs: UInt8[np.ndarray, "B h w 3"]) -> Fetch:
            fetch = self.start(replicated_variables, inputs, size, ("fine",))

            def finite_masks() -> Float[np.ndarray, "B h w"]:
                masks = fetch()["fine"]
                if not np.isfinite(masks).all():
                    raise ValueError(
                        f"the network gives NaN for masks ({origin}): its weights are damaged, or "
                        "its training has gone wrong. Get the file again, or take another "
                        "checkpoint"
                    )
                return masks

            return finite_masks

        return Predictor(
            start, short_side=short_side, patch_size=self._network.patch_size, batch_size=size
        )
