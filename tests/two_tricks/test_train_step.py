"""The pmapped step: devices, randomness, dtypes, recompilation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.two_tricks.augment import Augmentation
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import (
    Evaluation,
    Examples,
    MaskNetwork,
    Objective,
    Prediction,
)
from sempart_jax.two_tricks.objective import SempartObjective
from sempart_jax.two_tricks.train_step import (
    DEVICE_AXIS,
    create_train_state,
    make_predict_step,
    make_train_step,
    replicate,
    shard,
    unreplicate,
)
from sempart_jax.two_tricks.vit import VisionTransformer

AUGMENTATION = Augmentation(jitter_probability=1.0, grayscale_probability=0.5)
# Not AdamW, whose first step is the sign of the gradient: where that is rounding, as for a bias
# before batch norm, the sign is free.
OPTIMIZER = optax.sgd(0.1)


def make_network(dtype=jnp.float32):
    return HeadNetwork(
        VisionTransformer(patch_size=4, width=12, depth=1, num_heads=2, dtype=dtype),
        SegmentationHead(patch_size=4, axis_name=DEVICE_AXIS),
        radius=2,
    )


@pytest.fixture(scope="module")
def start():
    network = make_network()
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    # Smooth images: on noise the thresholded affinity would hang on rounding.
    images = np.asarray(
        jax.image.resize(images[:, ::4, ::4].astype(np.float32), images.shape, "cubic")
    )
    images = np.clip(images, 0, 255).astype(np.uint8)
    backbone_params = jax.jit(network.backbone.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))[
        "params"
    ]
    variables = network.init(jax.random.key(1), backbone_params, 16)
    return network, backbone_params, create_train_state(variables, OPTIMIZER), images


def run(start, device_count, *, steps=1, seed=0, network=None):
    """Return the state after the first step, and the metrics of all steps."""
    default, backbone_params, state, images = start
    devices = jax.local_devices()[:device_count]
    step = make_train_step(
        network or default,
        SempartObjective(),
        OPTIMIZER,
        seed=seed,
        augmentation=AUGMENTATION,
        devices=devices,
    )
    state, backbone_params = replicate(state, devices), replicate(backbone_params, devices)
    first, history = None, []
    for _ in range(steps):
        state, metrics = step(state, backbone_params, shard(Examples(images), device_count))
        first = first or unreplicate(state)
        history.append({name: float(value[0]) for name, value in metrics.items()})
    return first, history


@pytest.fixture(scope="module")
def one_device(start):
    return run(start, 1, steps=2)


def test_eight_devices_take_the_steps_of_one(start, one_device):
    """Augmentation and crops on, so that this holds for the random numbers as well.

    Of the first steps: what is rounding there grows from step to step.
    """
    state, history = run(start, 8, steps=2)
    expected_state, expected_history = one_device
    for step, (metrics, expected) in enumerate(zip(history, expected_history, strict=True), 1):
        for name, value in expected.items():
            # The norm is dominated by few gradients whose sums are long: looser than the losses.
            rtol = 1e-3 if step == 2 else 1e-4 if name == "grad_norm" else 1e-5
            np.testing.assert_allclose(
                metrics[name], value, rtol=rtol, atol=1e-7, err_msg=f"{name}, step {step}"
            )
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.batch_stats):
        expected = expected_state.batch_stats
        for part in path:
            expected = expected[part.key]
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        expected = expected_state.params
        for part in path:
            expected = expected[part.key]
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-5)


def test_step_counts_and_reports_every_term(one_device):
    state, history = one_device
    assert int(state.step) == 1
    assert set(history[0]) == {
        "total",
        "ncut",
        "gtv_fine",
        "gtv_coarse",
        "consistency",
        "ncut_crop",
        "equivariance",
        "mean_coarse",
        "mean_fine",
        "grad_norm",
    }


def test_random_numbers_follow_seed_and_step(start, one_device):
    history = one_device[1]
    assert history[1]["equivariance"] != history[0]["equivariance"]
    _, other_seed = run(start, 1, seed=1)
    assert other_seed[0]["ncut"] != history[0]["ncut"]


class Dot(MaskNetwork):
    """One weight and one running average."""

    patch_size = 1

    def init(self, key, frozen_params, image_size):
        return {"params": {"w": jnp.ones(())}, "batch_stats": {"mean": jnp.zeros(())}}

    def predict(self, frozen_params, variables, image, *, train=False):
        mask = jax.nn.sigmoid(variables["params"]["w"] * image[..., :1])
        mean = 0.5 * (variables["batch_stats"]["mean"] + jnp.mean(image))
        return Prediction(mask, mask, {"mean": mean})


class DarkMask(Objective):
    """The mean of the mask."""

    def evaluate(self, network, frozen_params, variables, examples, *, keys, step):
        student = network.predict(frozen_params, variables, examples.image, train=True)
        return Evaluation(jnp.mean(student.fine), {}, student)


def test_the_average_is_a_weighted_mean_of_the_variables_after_each_step():
    network, decay, devices = Dot(), 0.75, jax.local_devices()[:2]
    optimizer = optax.adam(0.1)
    step = make_train_step(
        network,
        DarkMask(),
        optimizer,
        seed=0,
        augmentation=None,
        average_decay=decay,
        devices=devices,
    )
    first = network.init(jax.random.key(0), {}, 1)
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    plain = replicate(create_train_state(first, optimizer), devices)
    state = replicate(create_train_state(first, optimizer, averaged=True), devices)
    assert unreplicate(state).variables == first
    after = []
    for count in range(1, 6):
        plain, _ = step(plain, {}, shard(Examples(image), 2))
        state, _ = step(state, {}, shard(Examples(image), 2))
        single = unreplicate(plain)
        for name in ("step", "params", "batch_stats", "opt_state"):
            ours = getattr(unreplicate(state), name)
            jax.tree.map(np.testing.assert_array_equal, ours, getattr(single, name))
        after.append((float(single.params["w"]), float(single.batch_stats["mean"])))
        weights = decay ** np.arange(count - 1, -1, -1, dtype=np.float64)
        expected = np.average(after, axis=0, weights=weights)
        average = unreplicate(state).variables
        found = float(average["params"]["w"]), float(average["batch_stats"]["mean"])
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_augmentation_can_be_switched_off():
    devices = jax.local_devices()[:2]
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    first = create_train_state(Dot().init(jax.random.key(0), {}, 1), OPTIMIZER)

    def total(seed, augmentation):
        step = make_train_step(
            Dot(), DarkMask(), OPTIMIZER, seed=seed, augmentation=augmentation, devices=devices
        )
        _, metrics = step(replicate(first, devices), {}, shard(Examples(image), 2))
        return float(metrics["total"][0])

    assert total(0, None) == total(5, None)
    assert len({total(0, None), total(0, AUGMENTATION), total(5, AUGMENTATION)}) == 3


def test_steps_compile_once(start):
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **kwargs: compiled.append(event) if "backend_compile" in event else None
    )
    devices = jax.local_devices()[:2]
    network, backbone_params, state, images = start
    step = make_train_step(
        network, SempartObjective(), OPTIMIZER, seed=0, augmentation=None, devices=devices
    )
    state, backbone_params = replicate(state, devices), replicate(backbone_params, devices)
    state, _ = step(state, backbone_params, shard(Examples(images), 2))
    assert compiled
    compiled.clear()
    for _ in range(2):
        state, _ = step(state, backbone_params, shard(Examples(images), 2))
    assert not compiled


@pytest.mark.slow
def test_the_loss_finds_a_square_on_a_ground(start):
    network = HeadNetwork(
        HandcraftedBackbone(), SegmentationHead(patch_size=8, axis_name=DEVICE_AXIS), radius=2
    )
    rng = np.random.default_rng(0)
    images = np.full((2, 48, 48, 3), (40, 90, 60), np.uint8)
    truth = np.zeros((2, 48, 48), bool)
    for image, mask in zip(images, truth, strict=True):
        row, column = 8 * rng.integers(0, 4, 2)
        image[row : row + 24, column : column + 24] = (200, 120, 90)
        mask[row : row + 24, column : column + 24] = True
    variables = network.init(jax.random.key(1), {}, 48)
    state = replicate(create_train_state(variables, optax.adam(2e-3)), jax.local_devices()[:1])
    step = make_train_step(
        network,
        SempartObjective(crop_fraction=None),
        optax.adam(2e-3),
        seed=0,
        augmentation=None,
        devices=jax.local_devices()[:1],
    )
    losses = []
    for _ in range(45):
        state, metrics = step(state, {}, shard(Examples(images), 1))
        losses.append(float(metrics["total"][0]))
    assert losses[-1] < 0.5 * losses[0]
    state = unreplicate(state)
    fine = jax.jit(network.predict)(
        {},
        {"params": state.params, "batch_stats": state.batch_stats},
        jnp.asarray(images, jnp.float32) / 255,
    ).fine[..., 0]
    found = np.asarray(fine) > 0.5
    found = ~found if found.mean() > 0.5 else found
    assert (found & truth).sum() / (found | truth).sum() > 0.75


def test_bfloat16_backbone_leaves_the_head_in_float32(start, one_device):
    state, history = run(start, 1, network=make_network(jnp.bfloat16))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((state.params, state.batch_stats)))
    assert all(np.isfinite(value) for value in history[0].values())
    np.testing.assert_allclose(history[0]["total"], one_device[1][0]["total"], rtol=0.05)


def test_predicted_masks_lie_between_zero_and_one(start, whole):
    image, masks = shard(start[3].astype(np.float32) / 255, 8), whole
    assert masks.coarse.shape == (8, 1, 4, 4, 1)
    assert masks.fine.shape == masks.refined.shape == (8, 1, 16, 16, 1)
    for mask in masks:
        assert float(mask.min()) >= 0
        assert float(mask.max()) <= 1
    np.testing.assert_allclose(
        masks.refined[:, 0],
        jax.jit(start[0].refine)(jnp.asarray(image[:, 0]), jnp.asarray(masks.fine[:, 0])),
        atol=1e-5,
    )


class WithoutFilter(HeadNetwork):
    """Cannot refine."""

    def refine(self, image, mask):
        raise AssertionError("nobody wants the refined mask")


def prediction_arguments(start):
    _, backbone_params, state, images = start
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return replicate(backbone_params), replicate(variables), shard(images, 8)


@pytest.fixture(scope="module")
def whole(start):
    """All masks of the network on eight devices."""
    return make_predict_step(start[0])(*prediction_arguments(start))


def test_masks_that_nobody_wants_are_not_computed(start, whole):
    network, arguments = start[0], prediction_arguments(start)
    without = WithoutFilter(network.backbone, network.head, radius=2)
    masks = make_predict_step(without)(*arguments, ("fine",))
    assert masks.coarse is None
    assert masks.refined is None
    np.testing.assert_allclose(masks.fine, whole.fine, atol=1e-6)
    with pytest.raises(AssertionError, match="nobody wants"):
        make_predict_step(without)(*arguments)


@pytest.mark.parametrize(("names", "given"), [((), "none"), (("fine", "sharp"), "fine, sharp")])
def test_masks_of_unknown_names_are_refused(start, names, given):
    message = f"some of coarse, fine, refined, got {given}"
    with pytest.raises(ValueError, match=message):
        make_predict_step(start[0])({}, {}, np.zeros((8, 1, 8, 8, 3), np.uint8), names)


def test_a_batch_that_does_not_divide_is_an_error():
    with pytest.raises(ValueError, match="batch of 6 does not divide among 4 devices"):
        shard(np.zeros((6, 2)), 4)
