"""A step of several micro-batches: the step of the whole batch, in less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sempart_jax.baselines.found import FoundDecoder
from sempart_jax.baselines.found_objective import FoundObjective
from sempart_jax.two_tricks.augment import Augmentation
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.objective import SempartObjective
from sempart_jax.two_tricks.train_step import (
    DEVICE_AXIS,
    create_train_state,
    make_train_step,
    replicate,
    shard,
    unreplicate,
)
from sempart_jax.two_tricks.vit import VisionTransformer

AUGMENTATION = Augmentation(jitter_probability=1.0, grayscale_probability=0.5)
OPTIMIZER = optax.sgd(0.1)
SIDE = 16


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 3)).astype(np.float32)
    smooth = jax.image.resize(coarse, (16, SIDE, SIDE, 3), "cubic")
    return np.clip(np.asarray(smooth), 0, 255).astype(np.uint8)


def start(head):
    network = HeadNetwork(
        VisionTransformer(patch_size=4, width=12, depth=1, num_heads=2), head, radius=2
    )
    frozen = jax.jit(network.backbone.init)(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
    frozen = frozen["params"]
    variables = network.init(jax.random.key(1), frozen, SIDE)
    return network, frozen, create_train_state(variables, OPTIMIZER)


@pytest.fixture(scope="module")
def decoder():
    """FOUND's decoder: no batch norm, nor anything else that joins the images of a batch."""
    return start(FoundDecoder(patch_size=4))


@pytest.fixture(scope="module")
def head():
    return start(SegmentationHead(patch_size=4, axis_name=DEVICE_AXIS))


@functools.cache
def build(network, objective, accumulation, device_count, augmentation=AUGMENTATION):
    return make_train_step(
        network,
        objective,
        OPTIMIZER,
        seed=3,
        augmentation=augmentation,
        accumulation=accumulation,
        devices=jax.local_devices()[:device_count],
    )


def take(started, objective, batches, accumulation=1, device_count=1, state=None, **options):
    network, frozen, initial = started
    devices = jax.local_devices()[:device_count]
    step = build(network, objective, accumulation, device_count, **options)
    state, frozen = replicate(state or initial, devices), replicate(frozen, devices)
    metrics = {}
    for batch in batches:
        state, metrics = step(state, frozen, shard(Examples(batch), device_count))
    return unreplicate(state), {name: float(value[0]) for name, value in metrics.items()}


def assert_close(actual, expected, tolerance: float) -> None:
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


@pytest.fixture(scope="module")
def whole(decoder, images):
    """Two steps of the whole batch: one that learns from the background, one from itself."""
    return take(decoder, FoundObjective(background_steps=1), (images[:8], images[8:]))


@pytest.mark.parametrize(("accumulation", "device_count"), [(4, 1), (2, 2)])
def test_without_batch_norm_it_is_the_step_of_the_whole_batch(
    decoder, images, whole, accumulation, device_count
):
    """Augmentation on: the random numbers of an image follow its place in the whole batch."""
    objective = FoundObjective(background_steps=1)
    batches = images[:8], images[8:]
    state, metrics = take(decoder, objective, batches, accumulation, device_count)
    expected_state, expected_metrics = whole
    assert int(state.step) == 2
    assert_close(state.params, expected_state.params, 1e-6)
    assert metrics.keys() == expected_metrics.keys()
    assert_close(metrics, expected_metrics, 1e-5)
    # The steps moved the parameters by far more than that.
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), state.params, decoder[2].params)
    assert max(jax.tree.leaves(moved)) > 1e-3


PLAIN = SempartObjective(crop_fraction=None)


@pytest.mark.slow
def test_each_micro_batch_is_normalised_by_itself(head, images):
    """Against a step of each micro-batch alone, from the same parameters."""
    state, metrics = take(head, PLAIN, [images[:4]], 2, augmentation=None)
    initial = head[2]
    first, first_metrics = take(head, PLAIN, [images[:4:2]], augmentation=None)
    # The running averages follow in order.
    between = initial.replace(batch_stats=first.batch_stats)
    second, second_metrics = take(head, PLAIN, [images[1:4:2]], state=between, augmentation=None)
    assert_close(state.batch_stats, second.batch_stats, 1e-5)
    mean = jax.tree.map(lambda x, y: (x + y) / 2, first.params, second.params)
    assert_close(state.params, mean, 1e-6)
    for name in first_metrics.keys() - {"grad_norm"}:
        expected = (first_metrics[name] + second_metrics[name]) / 2
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-5, err_msg=name)
    # That of the mean, not the mean of two.
    gradients = jax.tree.map(lambda x, y: (x - y) / 0.1, initial.params, mean)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(gradients), rtol=1e-3)
    assert metrics["grad_norm"] < first_metrics["grad_norm"] + second_metrics["grad_norm"]


@pytest.mark.slow
def test_local_devices_change_nothing(head, images):
    """With batch norm, augmentation and crops: the same images meet in a micro-batch."""
    expected_state, expected = take(head, SempartObjective(), [images[:4]], 2)
    state, metrics = take(head, SempartObjective(), [images[:4]], 2, device_count=2)
    for name, value in expected.items():
        rtol = 1e-4 if name == "grad_norm" else 1e-5
        np.testing.assert_allclose(metrics[name], value, rtol=rtol, atol=1e-7, err_msg=name)
    assert_close(state.batch_stats, expected_state.batch_stats, 1e-5)
    assert_close(state.params, expected_state.params, 1e-5)


@pytest.mark.slow
def test_it_takes_less_memory(head, images):
    network, frozen, state = head
    images = np.tile(images, (4, 1, 1, 1))  # what is kept of them, not of the parameters
    devices = jax.local_devices()[:1]
    arguments = replicate(state, devices), replicate(frozen, devices), shard(Examples(images), 1)
    needed = {}
    for accumulation in (1, 4):
        step = build(network, PLAIN, accumulation, 1, None)
        analysis = step.lower(*arguments).compile().memory_analysis()
        needed[accumulation] = analysis.temp_size_in_bytes
    assert needed[4] < 0.4 * needed[1]


@pytest.mark.parametrize("accumulation", [0, 3, 8])
def test_micro_batches_are_equal(decoder, images, accumulation):
    complaint = f"4 images of a device are not {accumulation} equal micro-batches"
    with pytest.raises(ValueError, match=complaint):
        take(decoder, FoundObjective(), [images[:8]], accumulation, device_count=2)
