"""The data-parallel device loop: state, training step and prediction step under ``pmap``."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils, struct
from jax import Array, lax

from sempart_jax.kernels.micro_batches import accumulate
from sempart_jax.kernels.normalization import from_bytes
from sempart_jax.two_tricks.augment import Augmentation, augment_batch, augment_mask_batch
from sempart_jax.two_tricks.interfaces import Examples, MaskNetwork, Objective, Variables

DEVICE_AXIS = "device"

Metrics = dict[str, Array]


class TrainState(struct.PyTreeNode):
    """Everything that a step changes.

    Attributes:
        step: number of steps taken, int32 array, on the device or the host.
        params: parameters that are trained.
        batch_stats: running averages of their batch norm.
        opt_state: state of the optimizer.
    """

    step: Any
    params: Variables
    batch_stats: Variables
    opt_state: optax.OptState

    @property
    def variables(self) -> Variables:
        """What prediction needs, ``{"params", "batch_stats"}``."""
        return {"params": self.params, "batch_stats": self.batch_stats}


class AveragedTrainState(TrainState):
    """A state that also follows the mean of its variables over the steps, and predicts by it.

    A class of its own, because orbax reads a checkpoint into the fields that it was written with.

    Attributes:
        average: mean of ``{"params", "batch_stats"}``; before the first step, their first values.
    """

    average: Variables

    @property
    def variables(self) -> Variables:
        """The average, see :attr:`TrainState.variables`."""
        return self.average

    def follow(self, decay: float) -> "AveragedTrainState":
        """Let the average follow the variables after a step.

        It is the mean of the variables after all steps, those of k steps ago weighted by
        ``decay^k``; the first values have no part in it.
        """
        # a_n = w v_n + (1 - w) a_(n-1),  w = (1 - d) / (1 - d^n)
        share = (decay - 1) / jnp.expm1(self.step * math.log(decay))
        new = {"params": self.params, "batch_stats": self.batch_stats}
        return self.replace(average=optax.incremental_update(new, self.average, share))


MASK_NAMES = ("coarse", "fine", "refined")
"""The masks that a network gives, see :class:`Masks`."""


class Masks(NamedTuple):
    """Predicted masks, ``[devices, B, ...]`` in [0, 1]; ``None`` where one was not asked for.

    Attributes:
        coarse: on patches ``[..., h, w, 1]``.
        fine: on pixels ``[..., H, W, 1]``.
        refined: fine mask after the guided filter ``[..., H, W, 1]``.
    """

    coarse: Array | None
    fine: Array | None
    refined: Array | None


def create_train_state(
    variables: Variables, optimizer: optax.GradientTransformation, *, averaged: bool = False
) -> TrainState:
    """Put the first variables and a fresh optimizer together, on one device."""
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )
    return AveragedTrainState(**vars(state), average=state.variables) if averaged else state


def zero_state(draw: Callable[[], Any]) -> Any:
    """Return zeros of the shapes that a function draws, to read a checkpoint into.

    Only shapes are needed: drawing the first parameters would compile for long.
    """
    shapes = jax.eval_shape(draw)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Copy a tree of arrays to all local devices, or to some, with a leading device axis."""
    # Laid out as the steps return their state, or the second step would compile anew. From the
    # host, or the copies would compile a stacking for each shape.
    return jax_utils.replicate(jax.device_get(tree), devices, axis_name=DEVICE_AXIS)


def unreplicate(tree: Any) -> Any:
    """Take the first device's copy of a replicated tree."""
    return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)


def shard(batch: Any, device_count: int) -> Any:
    """Split the leading axis of arrays over devices."""

    def split(x: Any) -> Any:
        if x.shape[0] % device_count:
            raise ValueError(
                f"a batch of {x.shape[0]} does not divide among {device_count} devices"
            )
        return x.reshape(device_count, -1, *x.shape[1:])

    return jax.tree.map(split, batch)


def image_keys(seed: int, step: Array, batch: int, local_devices: int) -> Array:
    """Make the random keys of a device's images, within a step mapped over :data:`DEVICE_AXIS`.

    They follow from the seed, the step and the images' places in the global batch alone.

    Args:
        seed: seed of the run.
        step: number of steps taken.
        batch: images of the device.
        local_devices: devices of each process.

    Returns:
        Keys ``[batch]``.
    """
    process, device = jnp.divmod(lax.axis_index(DEVICE_AXIS), local_devices)
    # The data pipeline deals the global batch out to the processes in turn.
    place = (device * batch + jnp.arange(batch)) * jax.process_count() + process
    step_key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(place)


def make_train_step(
    network: MaskNetwork,
    objective: Objective[Any],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    augmentation: Augmentation | None,
    accumulation: int = 1,
    average_decay: float = 0.0,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[TrainState, Variables, Examples], tuple[TrainState, Metrics]]:
    """Build the training step, mapped over all local devices of all processes.

    The random numbers of an image depend on the seed, the step and the image's place in the global
    batch alone, so that the number of devices changes nothing. The step waits for nothing on the
    host, unless its objective does (FOUND's); the old state's memory is reused.

    With ``accumulation=n``, each device takes its images in ``n`` micro-batches, one after the
    other, and updates the parameters once by the mean of their gradients: ``n`` times less memory
    for activations, and the random numbers of the whole batch. That is the step of the whole batch,
    but for batch norm: each micro-batch is normalised by its own statistics, those of its images on
    all devices, and the running averages follow the micro-batches in order. A device's images
    ``k, k + n, k + 2n, ...`` are micro-batch ``k``, so that local devices still change nothing;
    how many processes there are does, as it decides which images meet in a micro-batch.

    Args:
        network: network that averages its batch norm, if it has any, over :data:`DEVICE_AXIS`.
        objective: what is minimised.
        optimizer: the optimizer of the state.
        seed: seed of augmentation and crops.
        augmentation: how images are changed, or ``None`` to train on them as they are.
        accumulation: micro-batches a step, a divisor of each device's images.
        average_decay: see :meth:`AveragedTrainState.follow`; other states have no use for it.
        devices: local devices to run on, as given to :func:`replicate`; all by default.

    Returns:
        ``step(state, frozen_params, examples) -> (state, metrics)`` on replicated trees and uint8
        images ``[devices, B, H, W, 3]``. Metrics are the loss terms by name, ``total``,
        ``grad_norm``, ``mean_coarse`` and ``mean_fine``: scalars averaged over all devices and
        micro-batches, ``[devices]``; ``grad_norm`` is that of the averaged gradient.

    Raises:
        ValueError: from the first step, if ``accumulation`` is not positive or does not divide a
            device's images.
    """
    local_devices = len(devices) if devices is not None else jax.local_device_count()

    def step(
        state: TrainState, frozen_params: Variables, examples: Examples
    ) -> tuple[TrainState, Metrics]:
        keys = jax.vmap(jax.random.split)(
            image_keys(seed, state.step, examples.image.shape[0], local_devices)
        )

        def differentiate(
            batch_stats: Variables, keys: Array, examples: Examples
        ) -> tuple[Variables, tuple[Variables, Metrics]]:
            examples = jax.tree.map(lambda x: x.astype(jnp.float32) / 255, examples)
            if augmentation is not None:
                examples = _augment(keys[:, 0], examples, augmentation)

            def total_loss(params: Variables) -> tuple[Array, tuple[Metrics, Variables]]:
                variables = {"params": params, "batch_stats": batch_stats}
                total, terms, student = objective.evaluate(
                    network, frozen_params, variables, examples, keys=keys[:, 1], step=state.step
                )
                metrics = {
                    "total": total,
                    **terms,
                    "mean_coarse": jnp.mean(student.coarse),
                    "mean_fine": jnp.mean(student.fine),
                }
                return total, (metrics, student.batch_stats)

            gradients, (metrics, new_stats) = jax.grad(total_loss, has_aux=True)(state.params)
            return new_stats, (gradients, metrics)

        batch_stats, (gradients, metrics) = accumulate(
            differentiate, state.batch_stats, (keys, examples), accumulation
        )
        gradients, metrics = lax.pmean((gradients, metrics), DEVICE_AXIS)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        if isinstance(state, AveragedTrainState):
            state = state.follow(average_decay)
        return state, metrics

    return jax.pmap(step, axis_name=DEVICE_AXIS, donate_argnums=(0,), devices=devices)


def _augment(keys: Array, examples: Examples, augmentation: Augmentation) -> Examples:
    image = augment_batch(keys, examples.image, augmentation)
    if examples.mask is None:
        return Examples(image)
    return Examples(image, augment_mask_batch(keys, examples.mask, augmentation))


def connect_devices() -> None:
    """Let all devices of all processes exchange a number, as every training step does."""
    ones = np.ones(jax.local_device_count(), np.float32)
    jax.block_until_ready(jax.pmap(lambda x: lax.psum(x, DEVICE_AXIS), axis_name=DEVICE_AXIS)(ones))


def make_predict_step(network: MaskNetwork) -> Callable[..., Masks]:
    """Build the prediction step, mapped over the local devices: no other process is waited for.

    Args:
        network: network.

    Returns:
        ``predict(frozen_params, variables, image, names=MASK_NAMES) -> Masks`` on replicated trees
        and RGB images ``[devices, B, H, W, 3]``, float32 in [0, 1] or uint8; bytes are divided on
        the device, with the result of the host to the last bit. ``names`` are the wanted masks:
        what serves none of them is not computed, and each choice compiles by itself. It raises
        ``ValueError`` if a name is unknown, or there is none.
    """

    def predict(
        frozen_params: Variables, variables: Variables, image: Array, names: tuple[str, ...]
    ) -> Masks:
        if image.dtype == jnp.uint8:
            image = from_bytes(image)
        prediction = network.predict(frozen_params, variables, image)
        return Masks(
            prediction.coarse if "coarse" in names else None,
            prediction.fine if "fine" in names else None,
            network.refine(image, prediction.fine) if "refined" in names else None,
        )

    devices = jax.local_devices()
    mapped = jax.pmap(predict, DEVICE_AXIS, static_broadcasted_argnums=(3,), devices=devices)

    def checked(
        frozen_params: Variables,
        variables: Variables,
        image: Any,
        names: tuple[str, ...] = MASK_NAMES,
    ) -> Masks:
        if not names or not set(names) <= set(MASK_NAMES):
            given = ", ".join(names) or "none"
            raise ValueError(f"masks to predict are some of {', '.join(MASK_NAMES)}, got {given}")
        masks: Masks = mapped(frozen_params, variables, image, names)
        return masks

    return checked
