"""Ours: the training step and the prediction of Sempart on one device, with random weights.

Nothing but JAX, Flax, Optax and jaxtyping is imported, so that it runs on a bare machine.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sempart_jax.networks.pretrained import create_backbone
from sempart_jax.two_tricks.augment import Augmentation
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.interfaces import Variables
from sempart_jax.two_tricks.objective import SempartObjective
from sempart_jax.two_tricks.segmenter import Segmenter
from sempart_jax.two_tricks.train_step import (
    DEVICE_AXIS,
    TrainState,
    create_train_state,
    make_train_step,
    replicate,
)
from sempart_jax.two_tricks.vit import VisionTransformer

from .inputs import random_images

DTYPES = {
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "bfloat16_head": ("bfloat16", "bfloat16"),
}
"""Types of the products of the backbone and of the head, by a name for both."""
B1 = 0.9
"""What Adam keeps of its first moment."""


class Training(NamedTuple):
    """A training step and what it takes, all on one device but the images.

    Attributes:
        step: see ``make_train_step``.
        state: its first state.
        frozen_params: those of the backbone.
        images: uint8 ``[1, B, side, side, 3]`` on the host.
    """

    step: Any
    state: TrainState
    frozen_params: Variables
    images: np.ndarray


class Inference(NamedTuple):
    """A prediction and what it takes, on one device but for the images.

    Attributes:
        predict: ``predict(frozen_params, variables, images)``, masks ``[B, side, side, 1]``.
        frozen_params: those of the backbone.
        variables: those of the head.
        images: float32 in [0, 1] ``[B, side, side, 3]`` on the host.
    """

    predict: Any
    frozen_params: Variables
    variables: Variables
    images: np.ndarray


def make_training(
    *, backbone: str, batch: int, side: int, tricks: bool, dtype: str = "float32"
) -> Training:
    """Make the training step as a run makes it, with both tricks or with none.

    Args:
        backbone: name of the backbone.
        batch: images a step.
        side: of an image in pixels.
        tricks: whether with trick 2, and trick 1 in it.
        dtype: one of :data:`DTYPES`.
    """
    network, frozen_params = make_segmenter(backbone, dtype)
    variables = first_variables(backbone, dtype, side)
    step, state = make_step(network, variables, tricks=tricks)
    devices = jax.local_devices()[:1]
    return Training(
        step, state, replicate(frozen_params, devices), random_images(batch, side)[None]
    )


def make_step(
    network: Segmenter, variables: Variables, *, tricks: bool
) -> tuple[Callable[..., Any], TrainState]:
    """Make the step of the first device, and its first state there.

    Args:
        network: the network.
        variables: its first ones.
        tricks: whether with trick 2, and trick 1 in it.
    """
    optimizer = optax.adamw(1e-4, b1=B1, b2=0.99, eps=1e-8, weight_decay=0.0)
    devices = jax.local_devices()[:1]
    step = make_train_step(
        network,
        SempartObjective(crop_fraction=0.5 if tricks else None),
        optimizer,
        seed=0,
        augmentation=Augmentation(),
        devices=devices,
    )
    return step, replicate(create_train_state(variables, optimizer), devices)


def make_inference(
    *, backbone: str, batch: int, side: int, refined: bool, dtype: str = "float32"
) -> Inference:
    """Make the prediction of masks, with the guided filter behind it or without.

    Args:
        backbone: name of the backbone.
        batch: images a call.
        side: of an image in pixels.
        refined: whether the mask is filtered.
        dtype: one of :data:`DTYPES`.
    """
    network, frozen_params = make_segmenter(backbone, dtype)
    variables = first_variables(backbone, dtype, side)
    images = random_images(batch, side).astype(np.float32) / 255

    @jax.jit
    def predict(frozen_params: Variables, variables: Variables, image: jax.Array) -> jax.Array:
        fine = network.predict(frozen_params, variables, image).fine
        return network.refine(image, fine) if refined else fine

    frozen_params, variables = jax.device_put((frozen_params, variables))
    return Inference(predict, frozen_params, variables, images)


@functools.cache
def make_segmenter(backbone: str, dtype: str) -> tuple[Segmenter, Variables]:
    """Make Sempart over a backbone of random weights, and these, on the host.

    Args:
        backbone: name of the backbone.
        dtype: one of :data:`DTYPES`.
    """
    of_backbone, of_head = (jnp.dtype(name) for name in DTYPES[dtype])
    module = create_backbone(backbone, of_backbone)
    segmenter = Segmenter(module, SegmentationHead(module.patch_size, DEVICE_AXIS, of_head))
    return segmenter, draw_backbone(module)


@functools.cache
def first_variables(backbone: str, dtype: str, side: int) -> Variables:
    """Draw the first variables of the head; compiled once for all batch sizes."""
    segmenter, frozen_params = make_segmenter(backbone, dtype)
    return segmenter.init(jax.random.key(0), frozen_params, side)


def draw_backbone(module: VisionTransformer) -> Variables:
    """Draw parameters of a backbone on the host: to draw them in JAX compiles the whole network.

    Args:
        module: its shape.

    Returns:
        float32 arrays: normal with deviation 0.02, but for scales of one and biases of zero.
    """
    rng = np.random.default_rng(0)
    side = module.patch_size

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name in ("scale", "bias"):
            return np.full(leaf.shape, name == "scale", np.float32)
        return 0.02 * rng.standard_normal(leaf.shape, np.float32)

    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    params: Variables = jax.tree_util.tree_map_with_path(draw, shapes["params"])
    return params
