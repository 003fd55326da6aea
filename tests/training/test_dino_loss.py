"""The loss, the centre and the measures against naive loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sempart_jax.training.dino_loss import (
    dino_loss,
    mean_entropy,
    measure_teacher,
    teacher_probabilities,
    update_center,
)

BATCH, OUTPUTS = 3, 7


def softmax(x) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def draw(crops=5, views=2, outputs=OUTPUTS, seed=0):
    rng = np.random.default_rng(seed)
    student = rng.uniform(-1, 1, (crops, BATCH, outputs))
    teacher = rng.uniform(-1, 1, (views, BATCH, outputs))
    return student, teacher, rng.uniform(-0.3, 0.3, outputs)


def reference(student, teacher, center, teacher_temperature, student_temperature=0.1):
    """Return loss, entropy and entropy of the mean, pair by pair and image by image."""
    losses, distributions = [], []
    for view, of_view in enumerate(teacher):
        for image, logits in enumerate(of_view):
            target = softmax((logits - center) / teacher_temperature)
            distributions.append(target)
            for crop in range(len(student)):
                if crop != view:
                    p = softmax(student[crop, image] / student_temperature)
                    losses.append(-(target * np.log(p)).sum())
    entropies = [-(p * np.log(p)).sum() for p in distributions]
    mean = np.mean(distributions, axis=0)
    return np.mean(losses), np.mean(entropies), -(mean * np.log(mean)).sum()


@jax.jit
def compute(student, teacher, center, temperature):
    targets = teacher_probabilities(teacher, center, temperature)
    measured = measure_teacher(teacher, targets)
    return dino_loss(student, targets), measured.entropy, mean_entropy(measured.mean_probabilities)


def move_center(center, logits):
    return update_center(center, measure_teacher(logits, jax.nn.softmax(logits)).mean_logits)


def single(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


@pytest.mark.parametrize("temperature", [0.04, 0.07])
@pytest.mark.parametrize(("crops", "views"), [(2, 2), (3, 2), (8, 2), (5, 3)])
def test_agrees_with_the_double_loop(crops, views, temperature):
    arrays = draw(crops, views)
    out = compute(*single(*arrays), jnp.float32(temperature))
    np.testing.assert_allclose(out, reference(*arrays, temperature), rtol=2e-5)


def test_many_outputs_lose_no_digits():
    student, teacher, center = draw(outputs=40_000)
    arrays = (student, 0.2 * teacher, center)
    out = compute(*single(*arrays), jnp.float32(0.07))
    np.testing.assert_allclose(out, reference(*arrays, 0.07), rtol=1e-5)


def test_gradient_agrees_with_the_naive_loss():
    student, teacher, center = single(*draw())

    def naive(student):
        targets = jax.nn.softmax((teacher - center[None, None]) / 0.05)
        terms = [
            -jnp.sum(targets[t] * jax.nn.log_softmax(student[v] / 0.1), -1).mean()
            for t in range(2)
            for v in range(5)
            if t != v
        ]
        return sum(terms) / len(terms)

    def ours(student):
        return dino_loss(student, teacher_probabilities(teacher, center, 0.05))

    gradient = jax.jit(jax.grad(ours))(student)
    expected = jax.jit(jax.grad(naive))(student)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    check_grads(jax.jit(ours), (student,), order=1, modes=["rev"], eps=1e-2, rtol=1e-2)


def test_no_gradient_reaches_the_teacher():
    student, teacher, center = single(*draw())
    gradient = jax.jit(jax.grad(lambda teacher: compute(student, teacher, center, 0.05)[0]))(
        teacher
    )
    np.testing.assert_array_equal(gradient, 0)


def test_loss_is_the_entropy_where_student_and_teacher_agree():
    _, teacher, center = draw()
    one = np.repeat(teacher[:1], 2, axis=0)
    # the same distribution at the student's temperature
    student = np.repeat((one[:1] - center) / 0.05 * 0.1, 5, axis=0)
    loss, entropy, _ = compute(*single(student, one, center), 0.05)
    np.testing.assert_allclose(loss, entropy, atol=1e-6)


def test_measures_of_both_collapses():
    @jax.jit
    def measure(logits):
        measured = measure_teacher(logits, teacher_probabilities(logits, jnp.zeros(100), 0.04))
        return measured.entropy, mean_entropy(measured.mean_probabilities)

    uniform = np.zeros((2, 4, 100), np.float32)
    np.testing.assert_allclose(measure(uniform), np.log(100), rtol=1e-6)
    one = uniform.copy()
    one[:, :, 3] = 9
    np.testing.assert_array_equal(measure(one), 0)
    apart = 9 * np.eye(100, dtype=np.float32)[:8].reshape(2, 4, 100)
    np.testing.assert_allclose(measure(apart), (0, np.log(8)), atol=1e-6)


def test_bfloat16_logits_are_reduced_in_float32():
    student, teacher, center = single(*draw(outputs=5_000))
    student, teacher = student.astype(jnp.bfloat16), teacher.astype(jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        out = compute(student, teacher, center, jnp.float32(0.07))
        moved = move_center(center, teacher)
    assert {x.dtype for x in (*out, moved)} == {jnp.dtype(jnp.float32)}
    exact = [np.asarray(x, np.float64) for x in (student, teacher, center)]
    np.testing.assert_allclose(out, reference(*exact, 0.07), rtol=1e-5)
    np.testing.assert_allclose(moved, 0.9 * exact[2] + 0.1 * exact[1].mean((0, 1)), atol=1e-6)


def test_center_is_a_running_mean_of_all_logits():
    rng = np.random.default_rng(0)
    center, expected = jnp.zeros(OUTPUTS), np.zeros(OUTPUTS)
    for _ in range(5):
        logits = rng.uniform(-1, 1, (2, BATCH, OUTPUTS))
        center = move_center(center, jnp.asarray(logits, jnp.float32))
        expected = 0.9 * expected + 0.1 * logits.reshape(-1, OUTPUTS).mean(axis=0)
    np.testing.assert_allclose(center, expected, atol=1e-6)


def test_statistics_of_parts_average_to_those_of_the_whole():
    logits = np.random.default_rng(1).uniform(-1, 1, (2, 8, OUTPUTS)).astype(np.float32)
    center = jnp.asarray(np.linspace(-0.2, 0.2, OUTPUTS), jnp.float32)

    @jax.jit
    def measure(logits):
        return measure_teacher(logits, teacher_probabilities(logits, center, 0.07))

    parts = [measure(logits[:, first::4]) for first in range(4)]
    for ours, expected in zip(zip(*parts, strict=True), measure(logits), strict=True):
        np.testing.assert_allclose(np.mean(ours, axis=0), expected, atol=1e-6)


def test_memory_does_not_grow_with_the_pairs():
    crops, outputs = 12, 4_096
    shapes = [jax.ShapeDtypeStruct((n, 16, outputs), jnp.float32) for n in (crops, 2)]
    compiled = jax.jit(jax.grad(dino_loss)).lower(*shapes).compile()
    one = 16 * outputs * 4
    assert compiled.memory_analysis().temp_size_in_bytes < 1.5 * crops * one


@pytest.mark.parametrize(("crops", "views"), [(1, 1), (1, 2)])
def test_refuses_what_has_no_pairs(crops, views):
    student, teacher, center = single(*draw(crops, views))
    with pytest.raises(ValueError, match=f"{views} global views of the teacher and {crops} crops"):
        compute(student, teacher, center, 0.05)
