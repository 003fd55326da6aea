"""The data-parallel device loop: state, training step and prediction step under ``pmap``."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import jax_utils, struct
from jax import Array, lax

from sempart_jax.data.augment import Augmentation, augment_batch, augment_mask_batch
from sempart_jax.models.mask_network import MaskNetwork, Variables
from sempart_jax.objectives.base import Examples, Objective

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


class Masks(NamedTuple):
    """Predicted masks, ``[devices, B, ...]`` in [0, 1].

    Attributes:
        coarse: on patches ``[..., h, w, 1]``.
        fine: on pixels ``[..., H, W, 1]``.
        refined: fine mask after the guided filter ``[..., H, W, 1]``.
    """

    coarse: Array
    fine: Array
    refined: Array


def create_train_state(variables: Variables, optimizer: optax.GradientTransformation) -> TrainState:
    """Put the first variables and a fresh optimizer together, on one device.

    Args:
        variables: ``{"params", "batch_stats"}``.
        optimizer: the optimizer that the step will use.

    Returns:
        State of step 0.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Copy a tree of arrays to all local devices, or to some, with a leading device axis."""
    # Laid out as the steps return their state, or the second step would compile anew. From the
    # host, or the copies would compile a stacking for each shape.
    return jax_utils.replicate(jax.device_get(tree), devices, axis_name=DEVICE_AXIS)


def unreplicate(tree: Any) -> Any:
    """Take the first device's copy of a replicated tree."""
    return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)


def shard(batch: Any, device_count: int) -> Any:
    """Split the leading axis of arrays over devices.

    Args:
        batch: tree of arrays ``[B, ...]``.
        device_count: number of devices, a divisor of ``B``.

    Returns:
        Tree of arrays ``[devices, B / devices, ...]``.

    Raises:
        ValueError: if the devices do not divide the batch.
    """

    def split(x: Any) -> Any:
        if x.shape[0] % device_count:
            raise ValueError(
                f"a batch of {x.shape[0]} does not divide among {device_count} devices"
            )
        return x.reshape(device_count, -1, *x.shape[1:])

    return jax.tree.map(split, batch)


def make_train_step(
    network: MaskNetwork,
    objective: Objective[Any],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    augmentation: Augmentation | None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[TrainState, Variables, Examples], tuple[TrainState, Metrics]]:
    """Build the training step, mapped over all local devices of all processes.

    The random numbers of an image depend on the seed, the step and the image's place in the global
    batch alone, so that the number of devices changes nothing. The step waits for nothing on the
    host, unless its objective does (FOUND's); the old state's memory is reused.

    Args:
        network: network that averages its batch norm, if it has any, over :data:`DEVICE_AXIS`.
        objective: what is minimised.
        optimizer: the optimizer of the state.
        seed: seed of augmentation and crops.
        augmentation: how images are changed, or ``None`` to train on them as they are.
        devices: local devices to run on, as given to :func:`replicate`; all by default.

    Returns:
        ``step(state, frozen_params, examples) -> (state, metrics)`` on replicated trees and uint8
        images ``[devices, B, H, W, 3]``. Metrics are the loss terms by name, ``total``,
        ``grad_norm``, ``mean_coarse`` and ``mean_fine``: scalars averaged over all devices,
        ``[devices]``.
    """
    local_devices = len(devices) if devices is not None else jax.local_device_count()

    def step(
        state: TrainState, frozen_params: Variables, examples: Examples
    ) -> tuple[TrainState, Metrics]:
        batch = examples.image.shape[0]
        process, device = jnp.divmod(lax.axis_index(DEVICE_AXIS), local_devices)
        # The data pipeline deals the global batch out to the processes in turn.
        place = (device * batch + jnp.arange(batch)) * jax.process_count() + process
        step_key = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(step_key, index)))(place)
        examples = jax.tree.map(lambda x: x.astype(jnp.float32) / 255, examples)
        if augmentation is not None:
            examples = _augment(keys[:, 0], examples, augmentation)

        def total_loss(params: Variables) -> tuple[Array, tuple[Metrics, Variables]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
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

        gradients, (metrics, batch_stats) = jax.grad(total_loss, has_aux=True)(state.params)
        gradients, metrics = lax.pmean((gradients, metrics), DEVICE_AXIS)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, metrics

    return jax.pmap(step, axis_name=DEVICE_AXIS, donate_argnums=(0,), devices=devices)


def _augment(keys: Array, examples: Examples, augmentation: Augmentation) -> Examples:
    image = augment_batch(keys, examples.image, augmentation)
    if examples.mask is None:
        return Examples(image)
    return Examples(image, augment_mask_batch(keys, examples.mask, augmentation))


def make_predict_step(
    network: MaskNetwork,
) -> Callable[[Variables, Variables, Array], Masks]:
    """Build the prediction step, mapped over all local devices.

    Args:
        network: network.

    Returns:
        ``predict(frozen_params, variables, image) -> Masks`` on replicated trees and float
        RGB images ``[devices, B, H, W, 3]`` in [0, 1].
    """

    def predict(frozen_params: Variables, variables: Variables, image: Array) -> Masks:
        prediction = network.predict(frozen_params, variables, image)
        refined = network.refine(image, prediction.fine)
        return Masks(prediction.coarse, prediction.fine, refined)

    return jax.pmap(predict, axis_name=DEVICE_AXIS)
