"""The step against float64, on one device and eight, and what it follows from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sempart_jax.kernels.stochastic_depth import draw_branch_scale
from sempart_jax.networks.projection_head import ProjectionHead
from sempart_jax.training.dino_optimizer import dino_schedules
from sempart_jax.training.dino_step import create_dino_state, make_dino_step
from sempart_jax.two_tricks.train_step import replicate, shard, unreplicate
from sempart_jax.two_tricks.vit import VisionTransformer

OUTPUTS, BATCH = 10, 8
BACKBONE = VisionTransformer(patch_size=8, width=12, depth=2, num_heads=2, trained_grid=3)
HEAD = ProjectionHead(OUTPUTS, hidden=16, bottleneck=6)
SCHEDULES = dino_schedules(
    total_steps=10, batch_size=256, warmup_steps=2, temperature_warmup_steps=4
)
# Not AdamW, whose first step is the sign of the gradient: where that is rounding, the sign is free.
OPTIMIZER = optax.sgd(0.01)


def crop(key, image, side):
    corner = jax.random.randint(key, (2,), 0, image.shape[0] - side + 1)
    cut = jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (side, side, 3))
    return cut.astype(jnp.float32) / 255


def multi_crop(keys, images, local=3):
    def crops(first, count, side):
        sides = [
            jax.vmap(lambda key, image, i=i: crop(jax.random.fold_in(key, i), image, side))(
                keys, images
            )
            for i in range(first, first + count)
        ]
        return jnp.stack(sides) if sides else jnp.zeros((0, len(images), side, side, 3))

    return crops(0, 2, 24), crops(2, local, 16)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), np.uint8)


@functools.cache
def fresh():
    return jax.device_get(create_dino_state(BACKBONE, HEAD, OPTIMIZER, seed=3))


@functools.cache
def start():
    state = fresh()
    # Fresh weights are so small that all images have nearly the same tokens.
    rng = np.random.default_rng(1)

    def perturbed(tree):
        return jax.tree.map(lambda x: x + 0.2 * rng.standard_normal(x.shape, np.float32), tree)

    return state.replace(
        params=perturbed(state.params),
        teacher=perturbed(state.teacher),
        center=rng.uniform(-0.3, 0.3, OUTPUTS).astype(np.float32),
    )


@functools.cache
def compiled(device_count, **fields):
    fields = {"seed": 0, "drop_path": 0.5, "multi_crop": multi_crop, **fields}
    devices = jax.local_devices()[:device_count]
    return make_dino_step(BACKBONE, HEAD, OPTIMIZER, schedules=SCHEDULES, devices=devices, **fields)


def run(images, device_count, *, steps=1, state=None, **fields):
    step = compiled(device_count, **fields)
    state = replicate(state or start(), jax.local_devices()[:device_count])
    history = []
    for _ in range(steps):
        state, metrics = step(state, shard(images, device_count))
        history.append({name: float(value[0]) for name, value in metrics.items()})
    return jax.device_get(unreplicate(state)), history


def assert_close(ours, expected, **tolerance):
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        other = functools.reduce(lambda tree, part: tree[part.key], path, ours)
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(other, leaf, err_msg=name, **tolerance)


def assert_same_steps(actual, expected):
    state, history = actual
    expected_state, expected_history = expected
    for metrics, wanted in zip(history, expected_history, strict=True):
        assert metrics.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert_close(state.params, expected_state.params, rtol=1e-5, atol=1e-5)
    assert_close(state.teacher, expected_state.teacher, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.center, expected_state.center, atol=1e-6)


@pytest.fixture(scope="module")
def one_device(images):
    return run(images, 1, steps=2)


def test_eight_devices_take_the_steps_of_one(images, one_device):
    """With crops and left-out branches, so that this holds for the random numbers as well."""
    assert_same_steps(run(images, 8, steps=2), one_device)


def test_micro_batches_on_two_devices_are_the_step_of_the_whole_batch(images, one_device):
    assert_same_steps(run(images, 2, steps=2, accumulation=2), one_device)


def test_micro_batches_take_less_memory(images):
    devices = jax.local_devices()[:1]
    needed = {}
    for accumulation in (1, 4):
        step = compiled(1, accumulation=accumulation)
        lowered = step.lower(replicate(start(), devices), shard(images, 1))
        needed[accumulation] = lowered.compile().memory_analysis().temp_size_in_bytes
    assert needed[4] < 0.4 * needed[1]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@jax.jit
def logits(params, crops, scale=None):
    mean, std = (
        jnp.asarray(x).reshape(1, 1, 1, 1, 3)
        for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    images = ((crops - mean) / std).reshape(-1, *crops.shape[2:])
    out = BACKBONE.apply({"params": params["backbone"]}, images, branch_scale=scale)
    out = HEAD.apply({"params": params["head"]}, out["tokens"][:, 0])
    return out.reshape(len(crops), BATCH, OUTPUTS)


@jax.jit
def draw(images):
    """Return views, local crops, and scales of the branches ``[depth, 2, crops * B]``."""
    step_key = jax.random.fold_in(jax.random.key(0), 0)
    of_image = [jax.random.split(jax.random.fold_in(step_key, place)) for place in range(BATCH)]
    keys = jnp.stack([jax.random.fold_in(drop, v) for v in range(5) for _, drop in of_image])
    crop_keys = jnp.stack([crop for crop, _ in of_image])
    return *multi_crop(crop_keys, images), draw_branch_scale(keys, 2, 0.5)


def test_step_is_that_of_its_definition(images, one_device):
    """All that the step does around the networks, in float64."""
    before = start()
    state, (metrics,) = run(images, 1)
    assert int(state.step) == 1
    views, local, scale = draw(images)
    assert (scale == 0).any()
    g = np.asarray(logits(before.teacher, views), np.float64)
    targets = softmax((g - before.center) / 0.04)

    def loss(params):
        s = [
            logits(params, views, scale[:, :, : 2 * BATCH]),
            logits(params, local, scale[:, :, 2 * BATCH :]),
        ]
        log_p = np.log(softmax(np.concatenate(s).astype(np.float64) / 0.1))
        pairs = [(t, v) for t in range(2) for v in range(5) if t != v]
        return np.mean([-(targets[t] * log_p[v]).sum(-1).mean() for t, v in pairs])

    total = loss(before.params)
    entropy = -(targets * np.log(targets)).sum(-1).mean()
    mean = targets.mean((0, 1))
    # sgd: what the parameters lose is the rate times the gradient
    gradient = jax.tree.map(lambda a, b: (a - b) / 0.01, before.params, state.params)
    norm = np.sqrt(sum((np.asarray(x, float) ** 2).sum() for x in jax.tree.leaves(gradient)))
    expected = {
        "total": total,
        "teacher_entropy": entropy,
        "kl": total - entropy,
        "mean_entropy": -(mean * np.log(mean)).sum(),
        "grad_norm": norm,
        "learning_rate": 0,
        "teacher_momentum": 0.996,
        "teacher_temperature": 0.04,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-6, err_msg=name)
    # Along the gradient, the loss rises by its norm.
    ahead, behind = (
        loss(jax.tree.map(lambda p, g, t=t: p + t / norm * g, before.params, gradient))
        for t in (2e-3, -2e-3)
    )
    np.testing.assert_allclose((ahead - behind) / 4e-3, norm, rtol=0.01)
    center = 0.9 * before.center.astype(float) + 0.1 * g.mean((0, 1))
    np.testing.assert_allclose(state.center, center, atol=1e-6)
    # The teacher follows the student as it is after the step.
    follow = jax.tree.map(
        lambda t, s: 0.996 * t.astype(float) + 0.004 * s, before.teacher, state.params
    )
    assert_close(state.teacher, follow, rtol=0, atol=3e-7)


def test_random_numbers_follow_seed_step_and_place(images, one_device):
    _, (first, second) = one_device
    _, (later,) = run(images, 1, state=start().replace(step=np.int32(1)))
    assert first["total"] != later["total"]
    assert first["learning_rate"] != second["learning_rate"]
    same = np.repeat(images[:1], BATCH, axis=0)
    # One image in all places has several crops, and so several targets.
    _, (alike,) = run(same, 1)
    assert alike["mean_entropy"] > alike["teacher_entropy"] + 1e-3


def test_continued_state_takes_the_same_step_bit_for_bit(images, one_device):
    halfway, _ = run(images, 1)
    state, (metrics,) = run(images, 1, state=halfway)
    assert metrics == one_device[1][1]
    jax.tree.map(np.testing.assert_array_equal, state, one_device[0])


def test_another_seed_no_local_crops_and_no_stochastic_depth(images, one_device):
    few = functools.partial(multi_crop, local=0)
    _, (metrics,) = run(images, 1, multi_crop=few, seed=1, drop_path=0.0)
    assert all(np.isfinite(value) for value in metrics.values())
    # The teacher sees neither local crops nor stochastic depth anyway.
    assert metrics["teacher_entropy"] != pytest.approx(
        one_device[1][0]["teacher_entropy"], rel=1e-4
    )


def test_first_teacher_is_the_student_and_the_center_zero():
    state = fresh()
    jax.tree.map(np.testing.assert_array_equal, state.params, state.teacher)
    np.testing.assert_array_equal(state.center, np.zeros(OUTPUTS))
    assert state.params["backbone"]["position_embedding"].shape == (1, 10, 12)
    assert state.params["head"]["last_layer"]["kernel"].shape == (6, OUTPUTS)


def test_bfloat16_products_leave_the_state_in_float32(images):
    backbone, head = (module.clone(dtype=jnp.bfloat16) for module in (BACKBONE, HEAD))
    devices = jax.local_devices()[:1]
    step = make_dino_step(
        backbone,
        head,
        OPTIMIZER,
        multi_crop=multi_crop,
        schedules=SCHEDULES,
        seed=0,
        devices=devices,
    )
    before = replicate(start(), devices)
    with jax.numpy_dtype_promotion("strict"):
        state, metrics = jax.eval_shape(step, before, images[None])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), before
    )
    assert {value.dtype for value in metrics.values()} == {jnp.dtype(jnp.float32)}
