"""Ours: the workloads in JAX, as training and prediction run them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sempart_jax.predict.postprocessing import guided
from sempart_jax.two_tricks.filters import grey_guide, guided_filter
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.losses import normalized_cut

from .child import Work
from .inputs import filter_inputs, patch_inputs
from .sempart_programs import make_inference, make_training


def device() -> tuple[str, str]:
    """Return platform and name of the device that everything runs on."""
    return jax.devices()[0].platform, _device()


def _device() -> str:
    return jax.devices()[0].device_kind


def training(*, backbone: str, batch: int, side: int, tricks: bool, dtype: str = "float32") -> Work:
    """The training step on one device, from uint8 images on the host."""
    step, state, frozen_params, images = make_training(
        backbone=backbone, batch=batch, side=side, tricks=tricks, dtype=dtype
    )

    def run() -> None:
        nonlocal state
        state, metrics = step(state, frozen_params, Examples(images))
        jax.block_until_ready((state, metrics))

    return Work(run, device=_device())


def inference(
    *, backbone: str, batch: int, side: int, refined: bool, dtype: str = "float32"
) -> Work:
    """Backbone, head and, if asked for, guided filter, from float images to masks on the host."""
    predict, *arguments = make_inference(
        backbone=backbone, batch=batch, side=side, refined=refined, dtype=dtype
    )
    return Work(lambda: np.asarray(predict(*arguments)), device=_device())


def guided_on_host(*, height: int, width: int, radius: int) -> Work:
    """The guided filter that finishes masks, from uint8 RGB."""
    image, mask = filter_inputs(height, width)

    def run() -> np.ndarray:
        return guided(image, mask, radius=radius)

    return Work(run, run)


def guided_jitted(*, height: int, width: int, radius: int) -> Work:
    """The guided filter of training and prediction, from uint8 RGB."""
    image, mask = filter_inputs(height, width)

    @jax.jit
    def filtered(image: jax.Array, mask: jax.Array) -> jax.Array:
        guide = grey_guide(image.astype(jnp.float32) / 255)
        return guided_filter(guide, mask[..., None], radius)[..., 0]

    def run() -> np.ndarray:
        return np.asarray(filtered(image, mask))

    return Work(run, run, _device())


def cut(*, batch: int, grid: int, channels: int) -> Work:
    """N-cut loss and its gradient to the mask."""
    keys, mask = (jnp.asarray(array) for array in patch_inputs(batch, grid, channels))
    value_and_gradient = jax.jit(
        lambda keys, mask: jax.value_and_grad(normalized_cut, argnums=1)(keys, mask)
    )

    def run() -> Any:
        return jax.block_until_ready(value_and_gradient(keys, mask))

    return Work(run, lambda: _flat(*run()), _device())


def _flat(value: jax.Array, gradient: jax.Array) -> np.ndarray:
    # In multiples of a mean gradient, as the value is of order one.
    return np.append(np.asarray(gradient).ravel() * gradient.size, value)
