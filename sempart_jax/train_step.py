"""The data-parallel device loop: state, training step and prediction step under ``pmap``."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import jax_utils, struct
from jax import Array, lax

from sempart_jax.data.augment import Augmentation, augment_batch
from sempart_jax.models.segmenter import Segmenter, Variables
from sempart_jax.multiscale import random_corners
from sempart_jax.objective import Objective, evaluate_objective

DEVICE_AXIS = "device"

Metrics = dict[str, Array]


class TrainState(struct.PyTreeNode):
    """Everything that a step changes.

    Attributes:
        step: number of steps taken, int32 array, on the device or the host.
        params: parameters of the head.
        batch_stats: running averages of its batch norm.
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


def create_train_state(
    head_variables: Variables, optimizer: optax.GradientTransformation
) -> TrainState:
    """Put the head's first variables and a fresh optimizer together, on one device.

    Args:
        head_variables: ``{"params", "batch_stats"}``.
        optimizer: the optimizer that the step will use.

    Returns:
        State of step 0.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=head_variables["params"],
        batch_stats=head_variables["batch_stats"],
        opt_state=optimizer.init(head_variables["params"]),
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
    segmenter: Segmenter,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    augmentation: Augmentation | None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[TrainState, Variables, Array], tuple[TrainState, Metrics]]:
    """Build the training step, mapped over all local devices of all processes.

    The random numbers of an image depend on the seed, the step and the image's place in the global
    batch alone, so that the number of devices changes nothing. The step waits for nothing on the
    host; the old state's memory is reused.

    Args:
        segmenter: network whose head averages its batch norm over :data:`DEVICE_AXIS`.
        objective: what is minimised.
        optimizer: the optimizer of the state.
        seed: seed of augmentation and crops.
        augmentation: how images are changed, or ``None`` to train on them as they are.
        devices: local devices to run on, as given to :func:`replicate`; all by default.

    Returns:
        ``step(state, backbone_params, image) -> (state, metrics)`` on replicated trees and uint8
        images ``[devices, B, H, W, 3]``. Metrics are the loss terms by name, ``total``,
        ``grad_norm``, ``mean_coarse`` and ``mean_fine``: scalars averaged over all devices,
        ``[devices]``.
    """
    local_devices = len(devices) if devices is not None else jax.local_device_count()

    def step(
        state: TrainState, backbone_params: Variables, image: Array
    ) -> tuple[TrainState, Metrics]:
        batch, height, width, _ = image.shape
        process, device = jnp.divmod(lax.axis_index(DEVICE_AXIS), local_devices)
        # The data pipeline deals the global batch out to the processes in turn.
        place = (device * batch + jnp.arange(batch)) * jax.process_count() + process
        step_key = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(step_key, index)))(place)
        image = image.astype(jnp.float32) / 255
        if augmentation is not None:
            image = augment_batch(keys[:, 0], image, augmentation)
        corners = None
        if objective.crop_fraction is not None:
            crop = objective.crop_size(height, width)
            corners = random_corners(keys[:, 1], height, width, *crop)

        def total_loss(params: Variables) -> tuple[Array, tuple[Metrics, Variables]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            total, terms, student = evaluate_objective(
                objective, segmenter, backbone_params, variables, image, corners
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


def make_predict_step(
    segmenter: Segmenter,
) -> Callable[[Variables, Variables, Array], Masks]:
    """Build the prediction step, mapped over all local devices.

    Args:
        segmenter: network.

    Returns:
        ``predict(backbone_params, head_variables, image) -> Masks`` on replicated trees and float
        RGB images ``[devices, B, H, W, 3]`` in [0, 1].
    """

    def predict(backbone_params: Variables, head_variables: Variables, image: Array) -> Masks:
        prediction = segmenter.predict(backbone_params, head_variables, image)
        refined = segmenter.refine(image, prediction.fine)
        return Masks(prediction.coarse, prediction.fine, refined)

    return jax.pmap(predict, axis_name=DEVICE_AXIS)
