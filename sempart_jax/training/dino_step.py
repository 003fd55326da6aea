"""One step of DINO (arXiv 2104.14294, Algorithm 1) under ``pmap``: its state and what it does."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array, lax

from sempart_jax.kernels.micro_batches import accumulate
from sempart_jax.kernels.normalization import normalize
from sempart_jax.kernels.stochastic_depth import draw_branch_scale
from sempart_jax.networks.projection_head import ProjectionHead
from sempart_jax.training.dino_loss import (
    CENTER_MOMENTUM,
    STUDENT_TEMPERATURE,
    TeacherStatistics,
    dino_loss,
    mean_entropy,
    measure_teacher,
    teacher_probabilities,
    update_center,
)
from sempart_jax.training.dino_optimizer import Schedules
from sempart_jax.two_tricks.train_step import DEVICE_AXIS, Metrics, image_keys
from sempart_jax.two_tricks.vit import VisionTransformer

Params = dict[str, Any]

MultiCrop = Callable[[Array, Array], tuple[Array, Array]]
"""From keys ``[B]`` and uint8 images ``[B, H, W, 3]`` to float32 RGB in [0, 1]: global crops
``[2, B, G, G, 3]`` and local ones ``[n, B, L, L, 3]``, of which there may be none. A crop follows
from its image and its key alone."""


class DinoState(struct.PyTreeNode):
    """Everything that a step changes.

    Attributes:
        step: number of steps taken, int32 array, on the device or the host.
        params: the student's parameters, ``{"backbone", "head"}``.
        teacher: the teacher's, of the same structure.
        center: running mean of the teacher's logits, ``[K]``.
        opt_state: state of the optimizer.
    """

    step: Any
    params: Params
    teacher: Params
    center: Any
    opt_state: optax.OptState


def create_dino_state(
    backbone: VisionTransformer,
    head: ProjectionHead,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
) -> DinoState:
    """Draw the state of step 0, in which the teacher is the student."""

    @jax.jit
    def draw(key: Array) -> Params:
        of_backbone, of_head = jax.random.split(key)
        image = jnp.zeros((1, backbone.patch_size, backbone.patch_size, 3))
        token = jnp.zeros((1, backbone.width))
        return {
            "backbone": backbone.init(of_backbone, image)["params"],
            "head": head.init(of_head, token)["params"],
        }

    params = draw(jax.random.key(seed))
    return DinoState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # arrays of its own: the step gives those of the student away
        teacher=jax.tree.map(jnp.copy, params),
        center=jnp.zeros(head.out_dim),
        opt_state=optimizer.init(params),
    )


def make_dino_step(
    backbone: VisionTransformer,
    head: ProjectionHead,
    optimizer: optax.GradientTransformation,
    *,
    multi_crop: MultiCrop,
    schedules: Schedules,
    seed: int,
    drop_path: float = 0.1,
    student_temperature: float = STUDENT_TEMPERATURE,
    center_momentum: float = CENTER_MOMENTUM,
    accumulation: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[DinoState, Array], tuple[DinoState, Metrics]]:
    """Build the pretraining step, mapped over all local devices of all processes.

    Crops and left-out branches of an image follow from the seed, the step and the image's place in
    the global batch alone, so that the number of devices changes nothing. A step is a function of
    state and images. The old state's memory is reused.

    Args:
        backbone: what is pretrained.
        head: the projection head.
        optimizer: the optimizer of the state, of the same learning rate.
        multi_crop: draws the crops of each image.
        schedules: by the step; learning rate and weight decay are the optimizer's, and the learning
            rate is reported from here.
        seed: seed of crops and stochastic depth.
        drop_path: rate of stochastic depth at the student's last block, in [0, 1).
        student_temperature: by which the student's logits are divided.
        center_momentum: part of the centre that stays.
        accumulation: micro-batches that each device takes its images in, one after the other. The
            step is that of the whole batch, in less memory.
        devices: local devices to run on, as given to ``train_step.replicate``; all by default.

    Returns:
        ``step(state, images) -> (state, metrics)`` on a replicated state and uint8 images
        ``[devices, B, H, W, 3]``. Metrics are scalars of the batch on all devices, ``[devices]``:
        ``total``; ``teacher_entropy`` (see ``TeacherStatistics``), ``kl`` (of the teacher from the
        student: the total less the entropy) and ``mean_entropy`` in nats; ``grad_norm`` of all
        gradients before they are clipped; ``learning_rate``, ``teacher_momentum`` and
        ``teacher_temperature``.

    Raises:
        ValueError: from the first step, if ``drop_path`` is not in [0, 1), or ``accumulation`` is
            not positive or does not divide a device's images.
    """
    local_devices = len(devices) if devices is not None else jax.local_device_count()

    def class_tokens(params: Params, crops: Array, keys: Array | None) -> Array:
        """Return ``[v B, width]`` of crops ``[v, B, S, S, 3]``, with keys by stochastic depth."""
        scale = None
        if keys is not None and drop_path:
            scale = draw_branch_scale(keys.reshape(-1), backbone.depth, drop_path)
        images = normalize(crops.reshape(-1, *crops.shape[2:]))
        outputs: Any = backbone.apply({"params": params["backbone"]}, images, branch_scale=scale)
        tokens: Array = outputs["tokens"]
        return tokens[:, 0]

    def logits_of(params: Params, tokens: Array, batch: int) -> Array:
        logits: Any = head.apply({"params": params["head"]}, tokens)
        return jnp.asarray(logits).reshape(-1, batch, head.out_dim)

    def differentiate(
        state: DinoState, keys: Array, images: Array
    ) -> tuple[Params, Array, TeacherStatistics]:
        """Return the gradients of the loss of some images, the loss, and what the teacher says."""
        batch = images.shape[0]
        crop_keys, drop_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        views, local = multi_crop(crop_keys, images)
        teacher_logits = logits_of(state.teacher, class_tokens(state.teacher, views, None), batch)
        temperature = schedules.teacher_temperature(state.step)
        targets = teacher_probabilities(teacher_logits, state.center, temperature)

        # a key for each crop of each image, [crops, B]
        keys = jax.vmap(lambda crop: jax.vmap(jax.random.fold_in, (0, None))(drop_keys, crop))(
            jnp.arange(len(views) + len(local))
        )

        def loss(params: Params) -> Array:
            tokens = class_tokens(params, views, keys[: len(views)])
            if len(local):
                tokens_of_local = class_tokens(params, local, keys[len(views) :])
                tokens = jnp.concatenate([tokens, tokens_of_local])
            return dino_loss(logits_of(params, tokens, batch), targets, student_temperature)

        total, gradients = jax.value_and_grad(loss)(state.params)
        return gradients, total, measure_teacher(teacher_logits, targets)

    def step(state: DinoState, images: Array) -> tuple[DinoState, Metrics]:
        keys = image_keys(seed, state.step, images.shape[0], local_devices)
        _, means = accumulate(
            lambda _, *part: ((), differentiate(state, *part)), (), (keys, images), accumulation
        )
        gradients, total, teacher = lax.pmean(means, DEVICE_AXIS)
        momentum = schedules.teacher_momentum(state.step)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "total": total,
            "teacher_entropy": teacher.entropy,
            "kl": total - teacher.entropy,
            "mean_entropy": mean_entropy(teacher.mean_probabilities),
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": schedules.learning_rate(state.step),
            "teacher_momentum": momentum,
            "teacher_temperature": schedules.teacher_temperature(state.step),
        }
        state = DinoState(
            step=state.step + 1,
            params=params,
            # t <- m t + (1 - m) s
            teacher=jax.tree.map(
                lambda t, s: momentum * t + (1 - momentum) * s, state.teacher, params
            ),
            center=update_center(state.center, teacher.mean_logits, center_momentum),
            opt_state=opt_state,
        )
        return state, metrics

    return jax.pmap(step, axis_name=DEVICE_AXIS, donate_argnums=(0,), devices=devices)
