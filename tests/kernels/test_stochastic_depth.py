"""Which residual branches are left out, and what the transformer makes of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.kernels.stochastic_depth import draw_branch_scale
from sempart_jax.networks.porting import port_vit
from sempart_jax.two_tricks.vit import VisionTransformer
from tests.two_tricks import dino_reference

WIDTH, DEPTH, HEADS, GRID = 24, 3, 3, 3


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def test_rates_rise_linearly_and_the_mean_stays_one():
    scale = np.asarray(draw_branch_scale(keys(20_000), depth=5, rate=0.4))
    assert scale.shape == (5, 2, 20_000)
    np.testing.assert_array_equal(scale[0], 1)
    for block, rate in enumerate([0, 0.1, 0.2, 0.3, 0.4]):
        for branch in scale[block]:
            kept = branch > 0
            np.testing.assert_allclose(branch[kept], 1 / (1 - rate), rtol=1e-6)
            # five standard deviations
            assert abs(kept.mean() - (1 - rate)) <= 5 * np.sqrt(rate * (1 - rate) / 20_000)


def test_branches_are_left_out_independently_of_each_other():
    left_out = np.asarray(draw_branch_scale(keys(20_000), depth=3, rate=0.5)[1:] == 0)
    correlations = np.corrcoef(left_out.reshape(4, -1))
    assert np.abs(correlations - np.eye(4)).max() < 0.04


def test_a_sample_depends_on_its_own_key_alone():
    scale = np.asarray(draw_branch_scale(keys(8), DEPTH, 0.6))
    np.testing.assert_array_equal(draw_branch_scale(keys(8)[5:], DEPTH, 0.6), scale[:, :, 5:])
    assert len({column.tobytes() for column in scale.transpose(2, 0, 1)}) > 1


def test_the_only_block_is_kept():
    np.testing.assert_array_equal(draw_branch_scale(keys(50), depth=1, rate=0.9), 1)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_refuses_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match=rf"must be in \[0, 1\), got {rate}"):
        draw_branch_scale(keys(2), 3, rate)


IMAGE = np.random.default_rng(1).standard_normal((3, 24, 32, 3)).astype(np.float32)
STATE = dino_reference.seeded_state_dict(8, WIDTH, DEPTH, GRID)


@functools.cache
def compiled(**fields):
    vit = VisionTransformer(8, WIDTH, DEPTH, HEADS, **fields)

    def apply(params, scale):
        return vit.apply({"params": params}, IMAGE, branch_scale=scale)["tokens"]

    return functools.partial(jax.jit(apply), port_vit(STATE))


@pytest.fixture(scope="module")
def scale():
    scale = np.asarray(draw_branch_scale(keys(3, seed=2), DEPTH, 0.6))
    assert 0 in scale
    assert (scale[1:, 0] != scale[1:, 1]).any()
    return scale


def test_ones_leave_the_transformer_as_it_is():
    out = compiled()(np.ones((DEPTH, 2, 3), np.float32))
    np.testing.assert_allclose(out, compiled()(None), atol=1e-6)


def test_scales_multiply_each_branch_of_each_sample(scale):
    """As float64 does whose output weights carry the factor: each sample by its own weights."""
    out = compiled()(scale)
    for sample in range(3):
        scaled = dict(STATE)
        for block in range(DEPTH):
            for branch, layer in enumerate(("attn.proj", "mlp.fc2")):
                for part in ("weight", "bias"):
                    name = f"blocks.{block}.{layer}.{part}"
                    scaled[name] = STATE[name] * scale[block, branch, sample]
        expected = dino_reference.forward(scaled, IMAGE[sample : sample + 1], HEADS)["tokens"]
        np.testing.assert_allclose(out[sample : sample + 1], expected, atol=2e-5, rtol=0)


def test_computing_blocks_again_takes_the_same_branches(scale):
    np.testing.assert_allclose(compiled(remat=True)(scale), compiled()(scale), atol=1e-5)


def test_promotes_no_dtype_silently(scale):
    with jax.numpy_dtype_promotion("strict"):
        assert draw_branch_scale(keys(3, seed=2), DEPTH, 0.6).dtype == jnp.float32
        out = jax.eval_shape(compiled(dtype=jnp.bfloat16), scale)
    assert out.dtype == jnp.float32
