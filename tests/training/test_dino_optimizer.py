"""The optimizer against float64 and against PyTorch's AdamW, over twenty steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sempart_jax.training.dino_optimizer import (
    clip_each_by_norm,
    dino_optimizer,
    dino_schedules,
    linear_warmup,
    warmed_up_cosine,
)

STEPS, FREEZE = 20, 6
RATES = 1e-3 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2 + 1e-5
DECAYS = np.linspace(0.04, 0.4, STEPS)


def learning_rate(step):
    return warmed_up_cosine(step, base=1.01e-3, final=1e-5, total_steps=STEPS)


def weight_decay(step):
    return linear_warmup(step, start=0.04, final=0.4, warmup_steps=STEPS)


SHAPES = {
    "class_token": (1, 1, 4),
    "kernel": (4, 6),
    "bias": (6,),
    "last_layer": (6, 9),
}


def tree(arrays, dtype=np.float32):
    arrays = {name: np.asarray(x, dtype) for name, x in arrays.items()}
    last = {"last_layer": {"kernel": arrays.pop("last_layer")}}
    return {"backbone": arrays, "head": last}


@pytest.fixture(scope="module")
def problem():
    """First parameters and the gradients of all steps, some of which are clipped at 3."""
    rng = np.random.default_rng(0)
    first = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    gradients = [
        {name: rng.uniform(0.1, 2) * rng.standard_normal(s) for name, s in SHAPES.items()}
        for _ in range(STEPS)
    ]
    norms = np.array([[np.linalg.norm(g) for g in step.values()] for step in gradients])
    assert (norms > 3).any(0).sum() >= 2
    assert (norms < 3).any(0).all()
    return first, gradients


@pytest.fixture(scope="module")
def ours(problem):
    """Parameters after each step, by name."""
    first, gradients = problem
    optimizer = dino_optimizer(learning_rate, weight_decay, freeze_steps=FREEZE)

    @jax.jit
    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params = tree(first)
    state = optimizer.init(params)
    history = []
    for of_step in gradients:
        params, state = step(params, state, tree(of_step))
        history.append({**params["backbone"], "last_layer": params["head"]["last_layer"]["kernel"]})
    return history


def clipped(gradient):
    return gradient * min(1, 3 / (np.linalg.norm(gradient) + 1e-6))


def test_agrees_with_float64(problem, ours):
    params, gradients = problem
    for name, value in params.items():
        x, m, v, count = value.copy(), 0.0, 0.0, 0
        for step in range(STEPS):
            if name != "last_layer" or step >= FREEZE:
                g, count = clipped(gradients[step][name]), count + 1
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                direction = m / (1 - 0.9**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
                decay = DECAYS[step] * x if x.ndim > 1 else 0
                x = x - RATES[step] * (direction + decay)
            # a step is about 1e-3
            np.testing.assert_allclose(ours[step][name], x, atol=1e-6, err_msg=f"{name} {step}")


def test_agrees_with_pytorch(problem, ours):
    torch = pytest.importorskip("torch")
    first, gradients = problem
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in first.items()}
    decayed = [p for p in params.values() if p.ndim > 1]
    others = [p for p in params.values() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATES[step]
        optimizer.param_groups[0]["weight_decay"] = DECAYS[step]
        for name, p in params.items():
            p.grad = torch.tensor(clipped(gradients[step][name]))
        if step < FREEZE:
            params["last_layer"].grad = None
        optimizer.step()
        for name, p in params.items():
            expected = p.detach().numpy()
            np.testing.assert_allclose(ours[step][name], expected, atol=1e-6, err_msg=name)


def test_last_layer_waits_and_then_moves_by_a_fresh_adams_first_step(problem, ours):
    first = problem[0]["last_layer"].astype(np.float32)
    for step in range(FREEZE):
        np.testing.assert_array_equal(ours[step]["last_layer"], first)
    moved = np.abs(ours[FREEZE]["last_layer"] - first)
    # The first step of Adam is the sign of the gradient.
    assert moved.min() > 0.5 * RATES[FREEZE]


def test_each_tensor_is_clipped_by_its_own_norm():
    gradients = {"long": jnp.array([3.0, 4.0]), "short": jnp.array([[0.3], [0.4]])}
    clip = clip_each_by_norm(2.0)
    out, _ = clip.update(gradients, clip.init(gradients))
    np.testing.assert_allclose(out["long"], [1.2, 1.6], rtol=1e-6)
    np.testing.assert_array_equal(out["short"], gradients["short"])


def test_without_clipping_a_long_gradient_stays_long(problem):
    """Adam forgets the length of the first gradient, but not its relation to the second."""
    params = {"kernel": jnp.ones((2, 2))}

    def second_step(clip_norm):
        optimizer = dino_optimizer(learning_rate, weight_decay, freeze_steps=0, clip_norm=clip_norm)
        state = optimizer.init(params)
        for length in (1.0, 100.0):
            updates, state = optimizer.update({"kernel": jnp.full((2, 2), length)}, state, params)
        return updates["kernel"][0, 0]

    g = np.array([[1, 100], [1, 1.5]])
    m, v = 0.09 * g[:, 0] + 0.1 * g[:, 1], 0.000999 * g[:, 0] ** 2 + 0.001 * g[:, 1] ** 2
    expected = -RATES[1] * (m / 0.19 / np.sqrt(v / (1 - 0.999**2)) + DECAYS[1])
    ours = [second_step(clip_norm) for clip_norm in (None, 3.0)]
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_decay_shrinks_all_but_vectors():
    optimizer = dino_optimizer(
        lambda step: jnp.float32(0.1), lambda step: jnp.float32(0.5), freeze_steps=0
    )
    params = jax.tree.map(jnp.ones_like, tree({n: np.ones(s) for n, s in SHAPES.items()}))
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        expected = 0 if "bias" in jax.tree_util.keystr(path) else -0.05
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def reference(base, final, total, warmup=0, start=0.0) -> np.ndarray:
    rising = np.linspace(start, base, warmup)
    i = np.arange(total - warmup)
    falling = final + (base - final) * (1 + np.cos(np.pi * i / max(len(i), 1))) / 2
    return np.concatenate([rising, falling])


def values(schedule, steps) -> np.ndarray:
    out = jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32))
    assert out.dtype == jnp.float32
    return np.asarray(out, np.float64)


@pytest.mark.parametrize(
    ("base", "final", "total", "warmup", "start"),
    [
        (5e-4, 1e-6, 100, 10, 0.0),
        (5e-4, 1e-6, 37, 1, 0.0),
        (3e-3, 1e-5, 20, 20, 1e-4),
        (0.04, 0.4, 50, 0, 0.0),
        (0.996, 1.0, 64, 0, 0.0),
        (2.0, 0.0, 1, 0, 0.0),
    ],
)
def test_cosine_agrees_with_its_definition_at_every_step(base, final, total, warmup, start):
    def schedule(step):
        return warmed_up_cosine(
            step,
            base=base,
            final=final,
            total_steps=total,
            warmup_steps=warmup,
            warmup_start=start,
        )

    expected = reference(base, final, total, warmup, start)
    np.testing.assert_allclose(values(schedule, range(total)), expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(values(schedule, [total, total + 7]), final, rtol=1e-6)


def test_a_million_steps_lose_no_digits():
    schedules = dino_schedules(
        total_steps=1_000_000,
        batch_size=512,
        warmup_steps=30_000,
        temperature_warmup_steps=70_000,
    )
    steps = np.concatenate(
        [
            np.arange(50),
            np.arange(29_980, 30_020),
            np.arange(0, 10**6, 997),
            10**6 - np.arange(1, 99),
        ]
    )
    rate = values(schedules.learning_rate, steps)
    expected = reference(1e-3, 1e-6, 10**6, 30_000)[steps]
    np.testing.assert_allclose(rate, expected, rtol=1e-6, atol=1e-15)
    # Neighbours at the end differ by 4e-12 of the range; the curve never turns back.
    last = values(schedules.learning_rate, np.arange(10**6 - 2_000, 10**6))
    assert (np.diff(last) <= 0).all()
    momentum = values(schedules.teacher_momentum, steps)
    np.testing.assert_allclose(momentum, reference(0.996, 1, 10**6)[steps], rtol=0, atol=6e-8)


def test_dinos_values():
    schedules = dino_schedules(
        total_steps=1_000, batch_size=64, warmup_steps=100, temperature_warmup_steps=300
    )
    steps = np.arange(1_000)
    for schedule, expected in [
        (schedules.learning_rate, reference(0.0005 * 64 / 256, 1e-6, 1_000, 100)),
        (schedules.weight_decay, reference(0.04, 0.4, 1_000)),
        (schedules.teacher_momentum, reference(0.996, 1.0, 1_000)),
        (
            schedules.teacher_temperature,
            np.concatenate([np.linspace(0.04, 0.07, 300), np.full(700, 0.07)]),
        ),
    ]:
        np.testing.assert_allclose(values(schedule, steps), expected, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_shortest_linear_warmups(warmup):
    def schedule(step):
        return linear_warmup(step, start=0.04, final=0.07, warmup_steps=warmup)

    expected = np.concatenate([np.linspace(0.04, 0.07, warmup), [0.07, 0.07]])
    np.testing.assert_allclose(values(schedule, range(warmup + 2)), expected, rtol=1e-6)


def test_refuses_a_warmup_longer_than_the_run():
    schedules = dino_schedules(
        total_steps=10, batch_size=64, warmup_steps=11, temperature_warmup_steps=300
    )
    with pytest.raises(ValueError, match="the warm-up takes 11 steps, but the run has only 10"):
        schedules.learning_rate(jnp.zeros((), jnp.int32))


def test_promotes_no_dtype_silently():
    schedules = dino_schedules(
        total_steps=10, batch_size=64, warmup_steps=3, temperature_warmup_steps=3
    )
    with jax.numpy_dtype_promotion("strict"):
        assert {s(jnp.zeros((), jnp.int32)).dtype for s in schedules} == {jnp.dtype("float32")}
