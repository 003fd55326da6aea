"""Ours: the workloads in JAX, as training and prediction run them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sempart_jax.data.augment import Augmentation
from sempart_jax.filters import grey_guide, guided_filter
from sempart_jax.losses import normalized_cut
from sempart_jax.models.backbone import RANDOM_WEIGHTS, load_backbone
from sempart_jax.models.mask_network import Variables
from sempart_jax.models.networks import SEMPART, create_network
from sempart_jax.objectives.base import Examples
from sempart_jax.objectives.sempart import SempartObjective
from sempart_jax.postprocessing import guided
from sempart_jax.train_step import (
    DEVICE_AXIS,
    create_train_state,
    make_predict_step,
    make_train_step,
    replicate,
)

from .child import Work
from .inputs import filter_inputs, patch_inputs, random_images


def _device() -> str:
    return jax.devices()[0].device_kind


def training(*, backbone: str, batch: int, side: int, tricks: bool, dtype: str = "float32") -> Work:
    """The training step on one device, from uint8 images on the host."""
    module, frozen_params = load_backbone(backbone, RANDOM_WEIGHTS, dtype)
    network = create_network(SEMPART, module, axis_name=DEVICE_AXIS)
    optimizer = optax.adamw(1e-4, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.0)
    devices = jax.local_devices()[:1]
    step = make_train_step(
        network,
        SempartObjective(crop_fraction=0.5 if tricks else None),
        optimizer,
        seed=0,
        augmentation=Augmentation(),
        devices=devices,
    )
    variables = network.init(jax.random.key(0), frozen_params, side)
    state = replicate(create_train_state(variables, optimizer), devices)
    frozen_params = replicate(frozen_params, devices)
    images: Any = random_images(batch, side)[None]

    def run() -> None:
        nonlocal state
        state, metrics = step(state, frozen_params, Examples(images))
        jax.block_until_ready((state, metrics))

    return Work(run, device=_device())


def inference(
    *, backbone: str, batch: int, side: int, refined: bool, dtype: str = "float32"
) -> Work:
    """Backbone, head and, if asked for, guided filter, from float images to masks on the host."""
    module, frozen_params = load_backbone(backbone, RANDOM_WEIGHTS, dtype)
    network = create_network(SEMPART, module)
    variables = network.init(jax.random.key(0), frozen_params, side)
    images: Any = random_images(batch, side).astype(np.float32) / 255
    if refined:
        step = make_predict_step(network)
        frozen_params, variables = replicate((frozen_params, variables), jax.local_devices()[:1])

        def run() -> Any:
            return np.asarray(step(frozen_params, variables, images[None]).refined)

        return Work(run, device=_device())

    @jax.jit
    def predict(frozen_params: Variables, variables: Variables, image: jax.Array) -> jax.Array:
        return network.predict(frozen_params, variables, image).fine

    frozen_params, variables = jax.device_put((frozen_params, variables))
    return Work(lambda: np.asarray(predict(frozen_params, variables, images)), device=_device())


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
