"""The optimizer against float64 and against PyTorch's AdamW, over twenty steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sempart_jax.training.optimizer import clip_each_by_norm, dino_optimizer
from sempart_jax.training.schedules import linear_warmup, warmed_up_cosine

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
