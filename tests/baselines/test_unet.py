"""The U-Net against its definition in float64, and as training and prediction see it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.unet import STRIDE, UNet, UNetNetwork, pack
from sempart_jax.kernels.normalization import IMAGENET_MEAN, IMAGENET_STD


def seeded(network, seed=0):
    """Return variables as if trained, which take no compilation to draw."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            values = rng.normal(0, np.prod((1, *leaf.shape[:-1])) ** -0.5, leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, network.shapes({}, STRIDE))


@pytest.fixture(scope="module")
def small():
    network = UNetNetwork(UNet(channels=2), radius=2)
    image = np.random.default_rng(1).uniform(size=(2, 32, 48, 3)).astype(np.float32)
    return network, seeded(network), jnp.asarray(image)


def convolve(x, kernel, bias):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return bias + sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def double(x):
    """Bilinear at half-pixel centres: each output lies a quarter of a pixel off its nearest."""
    for axis in (1, 2):
        size = x.shape[axis]
        place = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = (place - low).reshape([-1 if k == axis else 1 for k in range(4)])
        x = (1 - share) * np.take(x, low, axis) + share * np.take(x, high, axis)
    return x


def reference(variables, image):
    """The mask in float64 by loops over levels."""
    params, stats = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64), (variables["params"], variables["batch_stats"])
    )

    def block(x, name):
        p, s = params[name], stats[name]["norm"]
        x = convolve(x, p["conv"]["kernel"], p["conv"]["bias"])
        x = (x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["norm"]["scale"] + p["norm"]["bias"]
        return np.where(x > 0, x, 0.01 * x)

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    x = (np.asarray(image, np.float64) - IMAGENET_MEAN) / IMAGENET_STD
    x = np.concatenate([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=-1)
    skips = []
    for level, blocks in enumerate((2, 2, 2, 3)):
        if level:
            skips.append(x)
            x = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
        for index in range(blocks):
            x = block(x, f"down_{level}_{index}")
    x = x + dense(x.mean(axis=(1, 2), keepdims=True), "context")
    for level in (2, 1, 0):
        x = dense(np.concatenate([double(x), skips[level]], axis=-1), f"merge_{level}")
        x = block(x, f"up_{level}")
    return 1 / (1 + np.exp(-double(dense(x, "logits"))))


def test_the_mask_is_that_of_the_definition(small):
    network, variables, image = small
    prediction = jax.jit(network.predict)({}, variables, image)
    expected = reference(variables, image)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(prediction.fine, expected, atol=1e-5)
    coarse = [
        [expected[:, r : r + 16, c : c + 16].mean(axis=(1, 2)) for c in (0, 16, 32)]
        for r in (0, 16)
    ]
    np.testing.assert_allclose(prediction.coarse, np.moveaxis(coarse, 2, 0), atol=1e-5)
    assert prediction.keys is None
    jax.tree.map(np.testing.assert_array_equal, prediction.batch_stats, variables["batch_stats"])


def test_packing_keeps_every_pixel():
    x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    packed = pack(x)
    assert packed.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(packed[1, 1, 2], np.ravel(x[1, 2:, 4:]))


def test_everything_is_trained_and_follows_the_batch(small):
    network, variables, image = small

    @jax.jit
    def gradient(params):
        def total(params):
            prediction = network.predict({}, {**variables, "params": params}, image, train=True)
            return jnp.sum(prediction.fine**2), prediction.batch_stats

        return jax.grad(total, has_aux=True)(params)

    gradients, stats = gradient(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        # A bias before batch norm moves nothing.
        moves = "'conv'" not in jax.tree_util.keystr(path) or path[-1].key == "kernel"
        assert bool(np.any(np.abs(leaf) > 1e-6)) or not moves, jax.tree_util.keystr(path)
    for ours, before in zip(*map(jax.tree.leaves, (stats, variables["batch_stats"])), strict=True):
        assert np.any(ours != before)


def test_a_usual_one_has_two_million_parameters():
    shapes = UNetNetwork(UNet()).shapes({}, 64)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 2_092_129


def test_a_side_that_the_stride_does_not_divide_is_an_error(small):
    network, variables, image = small
    assert network.patch_size == STRIDE == 16
    with pytest.raises(ValueError, match=r"image is 32 x 40 pixels: .* multiple of 16"):
        network.predict({}, variables, image[:, :, :40])
