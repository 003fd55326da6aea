"""Schedules against their definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.training.schedules import dino_schedules, linear_warmup, warmed_up_cosine


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
    with pytest.raises(ValueError, match="the warm-up takes 11 steps, and the run 10"):
        schedules.learning_rate(jnp.zeros((), jnp.int32))


def test_promotes_no_dtype_silently():
    schedules = dino_schedules(
        total_steps=10, batch_size=64, warmup_steps=3, temperature_warmup_steps=3
    )
    with jax.numpy_dtype_promotion("strict"):
        assert {s(jnp.zeros((), jnp.int32)).dtype for s in schedules} == {jnp.dtype("float32")}
