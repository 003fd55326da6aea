"""The head whose products are bfloat16: what is rounded, and what stays float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sempart_jax.two_tricks.head import SegmentationHead

HALF = SegmentationHead(patch_size=8, dtype=jnp.bfloat16)
WHOLE = SegmentationHead(patch_size=8)


@pytest.fixture(scope="module")
def inputs():
    """Variables of the head, keys and a normalised image, all float32."""
    rng = np.random.default_rng(0)
    keys = jnp.asarray(rng.normal(size=(2, 5, 4, 48)), jnp.float32)
    image = jnp.asarray(rng.normal(size=(2, 40, 32, 3)), jnp.float32)
    return jax.jit(WHOLE.init)(jax.random.key(0), keys, image), keys, image


def training_call(head, inputs):
    """Return loss, gradient, logits and running averages of a call in training."""
    variables, keys, image = inputs

    def loss(params):
        logits, updates = head.apply(
            {**variables, "params": params}, keys, image, train=True, mutable=["batch_stats"]
        )
        value = jnp.zeros(())
        for x in logits.values():
            columns = jnp.arange(x.shape[2]).reshape(1, 1, -1, 1)
            left_half = jnp.broadcast_to(columns < x.shape[2] // 2, x.shape).astype(jnp.float32)
            value = value + jnp.mean(jnp.square(nn.sigmoid(x) - left_half))
        return value, (logits, updates["batch_stats"])

    (value, (logits, batch_stats)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        variables["params"]
    )
    return value, gradient, logits, batch_stats


@pytest.fixture(scope="module")
def half(inputs):
    with jax.numpy_dtype_promotion("strict"):
        return training_call(HALF, inputs)


@pytest.fixture(scope="module")
def whole(inputs):
    return training_call(WHOLE, inputs)


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


def test_parameters_statistics_gradients_and_logits_are_float32(inputs, half):
    variables, keys, image = inputs
    drawn = jax.eval_shape(HALF.init, jax.random.key(0), keys, image)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), drawn) == jax.tree.map(
        lambda x: (x.shape, x.dtype), variables
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves((drawn, half))} == {"float32"}


def test_logits_are_those_of_float32_but_for_rounding(half, whole):
    # One rounding to bfloat16 is off by 2^-9 = 0.2 % of a number at most. Dozens of them lie on the
    # way to a fine logit, and batch norm holds those before it against the deviation of what was
    # rounded, which is less than its size: 1 % in the mean square, 4 % at worst of 2,560 logits.
    for name, bound in {"coarse": 0.01, "fine": 0.02}.items():
        expected = whole[2][name]
        error = np.abs(half[2][name] - expected) / np.std(expected)
        assert np.sqrt(np.mean(error**2)) < bound, name
        assert error.max() < 4 * bound, name
        # It is another computation.
        assert error.max() > 1e-3, name


def test_running_averages_are_those_of_float32_but_for_rounding(half, whole):
    for ours, expected in zip(jax.tree.leaves(half[3]), jax.tree.leaves(whole[3]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=5e-3, atol=1e-3)


def test_gradients_are_finite_and_those_of_float32_but_for_rounding(half, whole):
    # Back is as far as there, and leaky ReLU has another slope where rounding changes a sign: 3 %
    # of the whole gradient, and 6 % of its worst tensor.
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(half[1]))
    difference = jax.tree.map(lambda x, y: x - y, half[1], whole[1])
    assert norm(difference) < 0.05 * norm(whole[1])
    for (path, error), expected in zip(
        jax.tree_util.tree_leaves_with_path(difference), jax.tree.leaves(whole[1]), strict=True
    ):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        # A bias before batch norm has no gradient but for rounding.
        bound = 1e-7 if name.endswith("conv/bias") else 0.1 * norm(expected)
        assert norm(error) < bound, name


def equations(jaxpr):
    """Yield all equations, those of functions inside as well."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def test_convolutions_and_attention_are_bfloat16_and_resizing_and_last_layers_float32(inputs):
    found = {"conv_general_dilated": [], "dot_general": []}
    for equation in equations(jax.make_jaxpr(HALF.apply)(*inputs).jaxpr):
        if equation.primitive.name in found:
            operands = [variable.aval for variable in equation.invars]
            (dtype,) = {operand.dtype.name for operand in operands}
            found[equation.primitive.name].append((dtype, operands[1].shape))
    assert [dtype for dtype, _ in found["conv_general_dilated"]] == 7 * ["bfloat16"]
    dots = found["dot_general"]
    layers = [(dtype, shape) for dtype, shape in dots if len(shape) == 2 and shape[1] != 40]
    assert ("float32", (64, 1)) in layers
    assert ("float32", (131, 1)) in layers
    for shape in ((48, 64), (64, 384), (128, 64), (64, 64)):
        assert ("bfloat16", shape) in layers
        assert ("float32", shape) not in layers
