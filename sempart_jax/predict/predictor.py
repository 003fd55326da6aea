"""Predict masks for host arrays, in batches of few fixed shapes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.host.in_flight import map_in_flight
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.predict.input_size import FewShapesPredictor
from sempart_jax.two_tricks.interfaces import MaskNetwork, Variables
from sempart_jax.two_tricks.multiscale import crop_and_zoom
from sempart_jax.two_tricks.train_step import (
    MASK_NAMES,
    TrainState,
    make_predict_step,
    replicate,
    shard,
)

HostMasks = dict[str, Float[np.ndarray, "B _ _"]]
"""Masks in [0, 1] by their names."""


def whole_batch(batch_size: int) -> int:
    """Round a batch up to images for each local device alike."""
    devices = jax.local_device_count()
    return -(-batch_size // devices) * devices


class Predictor:
    """The network with one set of variables, from images on the host to soft masks there."""

    def __init__(self, network: MaskNetwork, replicated_frozen_params: Any) -> None:
        """Prepare the prediction step.

        It compiles at the first call of each image size, and once more for other masks, or for
        floats where there were bytes.

        Args:
            network: network.
            replicated_frozen_params: parameters that are not trained, on all devices.
        """
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
            images: RGB, uint8 or float in [0, 1], sides divisible by the patch; a whole batch of
                them at most. They are not to be changed before the masks are there.
            batch_size: images that are processed together, rounded up by :func:`whole_batch`;
                fewer are padded to it, so that the last batch of a data set does not compile anew.
            names: the wanted masks, among :data:`MASK_NAMES`; what serves none is not computed.

        Returns:
            What waits for the masks and gives them by ``names``: ``coarse`` ``[B, h, w]``, ``fine``
            and ``refined`` ``[B, H, W]``, in [0, 1].

        Raises:
            ValueError: if there are more images than a whole batch, or a name is unknown.
        """
        count, size = len(images), whole_batch(batch_size)
        if count > size:
            raise ValueError(f"{count} images are more than a batch of {size}")
        if images.dtype != np.uint8:
            images = images.astype(np.float32, copy=False)
        if count < size:
            images = np.pad(images, ((0, size - count), (0, 0), (0, 0), (0, 0)))
        sharded = shard(images, jax.local_device_count())
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

    def __call__(
        self,
        replicated_variables: Variables,
        images: UInt8[np.ndarray, "B H W 3"] | Float[np.ndarray, "B H W 3"],
        batch_size: int,
        names: tuple[str, ...] = MASK_NAMES,
    ) -> HostMasks:
        """Predict for any number of images, batch by batch with two in flight.

        Args:
            replicated_variables: see :meth:`start`.
            images: see :meth:`start`; at least one.
            batch_size: see :meth:`start`.
            names: see :meth:`start`.

        Returns:
            Masks by ``names``, in the order of ``images``.
        """
        size = whole_batch(batch_size)

        def start(first: int) -> Callable[[], HostMasks]:
            return self.start(replicated_variables, images[first : first + size], size, names)

        parts = list(map_in_flight(start, range(0, len(images), size)))
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


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
            batch_size: images that are processed together, rounded up by :func:`whole_batch`.
            origin: where the network comes from, for an error.
        """
        super().__init__(
            short_side=short_side, patch_size=patch_size, batch_size=whole_batch(batch_size)
        )
        self._predictor = predictor
        self._variables = replicated_variables
        self._origin = origin

    def start(
        self, inputs: UInt8[np.ndarray, "B h w 3"]
    ) -> Callable[[], Float[np.ndarray, "B h w"]]:
        """Begin to predict for inputs of one size; fewer than a batch are padded to one.

        Returns:
            What waits for the masks and gives them; it raises ValueError where they are not
            finite.
        """
        fetch = self._predictor.start(self._variables, inputs, self.batch_size, ("fine",))

        def finite_masks() -> Float[np.ndarray, "B h w"]:
            masks = fetch()["fine"]
            if not np.isfinite(masks).all():
                raise ValueError(
                    f"the network gives NaN for masks ({self._origin}): its weights are damaged, "
                    "or its training has gone wrong. Get the file again, or take another checkpoint"
                )
            return masks

        return finite_masks


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
        Predictor(network.modules, replicate(network.frozen_params)),
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
    # As floats, which the zoomed ones are: both go through one compiled program.
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
