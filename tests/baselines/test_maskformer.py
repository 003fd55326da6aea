"""SelfMask's network against NumPy in float64, and what must not change its masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.networks.porting import port_vit
from sempart_jax.networks.pretrained import create_backbone
from sempart_jax.two_tricks.vit import VisionTransformer

WIDTH, HEADS = 24, 3


def encoder(**fields) -> VisionTransformer:
    return VisionTransformer(8, WIDTH, 1, HEADS, trained_grid=3, **fields)


def random_image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((*shape, 3)).astype(np.float32)


def random_params(model: MaskFormer, seed: int = 0):
    """Draw every parameter, so that biases and scales of norms are seen."""
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = 0.3 * rng.standard_normal(leaf.shape)
        return jnp.asarray(values + (path[-1].key == "scale"), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(model: MaskFormer, params, image):
    return model.apply({"params": params}, image)


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * p["scale"] + p["bias"]


def linear(x, p):
    return x @ p["kernel"] + p["bias"]


def attend(p, q, k, v):
    """Attention of one image, head by head."""
    out = p["out"]["bias"].copy()
    for head in range(HEADS):
        query, key, value = (
            x @ p[name]["kernel"][:, head] + p[name]["bias"][head]
            for name, x in (("query", q), ("key", k), ("value", v))
        )
        scores = np.exp(query @ key.T / np.sqrt(query.shape[1]))
        out = out + scores / scores.sum(1, keepdims=True) @ value @ p["out"]["kernel"][head]
    return out


def interpolation(size: int, scale: int) -> np.ndarray:
    """Rows of bilinear weights at half-pixel centres, clamped at the edges."""
    weights = np.zeros((size * scale, size))
    for place in range(size * scale):
        source = min(max((place + 0.5) / scale - 0.5, 0), size - 1)
        low = int(source)
        weights[place, low] += 1 - (source - low)
        weights[place, min(low + 1, size - 1)] += source - low
    return weights


def reference(params, tokens, grid, num_layers, scale):
    """Masks and objectness of one image from its patch tokens ``[N, D]``."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    enlarged = np.einsum(
        "Hh,Ww,hwd->HWd",
        interpolation(grid[0], scale),
        interpolation(grid[1], scale),
        tokens.reshape(*grid, -1),
    )
    place = p["query_embedding"]
    x = np.zeros_like(place)
    masks, objectness = [], []
    for index in range(num_layers):
        layer = p[f"layer_{index}"]
        x = norm(
            x + attend(layer["self_attention"], x + place, x + place, x),
            layer["self_attention_norm"],
        )
        x = norm(
            x + attend(layer["cross_attention"], x + place, tokens, tokens),
            layer["cross_attention_norm"],
        )
        hidden = np.maximum(linear(x, layer["mlp_hidden"]), 0)
        x = norm(x + linear(hidden, layer["mlp_output"]), layer["mlp_norm"])
        queries = norm(x, p["norm"])
        masks.append(np.einsum("qd,hwd->qhw", queries, enlarged))
        hidden = np.maximum(linear(queries, p["objectness_0"]), 0)
        hidden = np.maximum(linear(hidden, p["objectness_1"]), 0)
        objectness.append(linear(hidden, p["objectness_2"])[:, 0])
    return np.stack(masks), np.stack(objectness)


def assert_agrees(out, params, tokens, grid, num_layers, scale):
    for index, each in enumerate(np.asarray(tokens, np.float64)):
        masks, objectness = reference(params, each, grid, num_layers, scale)
        assert masks.std() > 1  # so that the tolerances mean something
        np.testing.assert_allclose(out["masks"][index], masks, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(out["objectness"][index], objectness, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "num_queries", "num_layers", "scale"),
    [((24, 24), 5, 3, 2), ((16, 56), 4, 2, 2), ((40, 8), 1, 1, 1), ((24, 16), 3, 2, 3)],
)
def test_agrees_with_float64(size, num_queries, num_layers, scale):
    image = random_image(2, *size)
    model = MaskFormer(encoder(), num_queries, num_layers, scale)
    params = random_params(model, seed=scale)
    out = run(model, params, image)
    grid = (size[0] // 8, size[1] // 8)
    enlarged = (scale * grid[0], scale * grid[1])
    assert out["masks"].shape == (2, num_layers, num_queries, *enlarged)
    assert out["objectness"].shape == (2, num_layers, num_queries)
    tokens = jax.jit(encoder().apply)({"params": params["encoder"]}, image)["tokens"][:, 1:]
    assert_agrees(out, params, tokens, grid, num_layers, scale)


def test_takes_ported_weights_of_the_backbone(golden):
    values = golden("dino_vit")
    state = {k.removeprefix("param/"): v for k, v in values.items() if k.startswith("param/")}
    image = values["image"].transpose(0, 2, 3, 1)
    model = MaskFormer(VisionTransformer(8, 48, 3, HEADS), num_queries=4, num_layers=2)
    params = random_params(model) | {"encoder": port_vit(state)}
    out = run(model, params, image)
    grid = (image.shape[1] // 8, image.shape[2] // 8)
    # The reference takes what the released encoder gave, not what ours gives.
    assert_agrees(out, params, values["tokens"][:, 1:], grid, num_layers=2, scale=2)


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_encoder_parameters_are_those_of_the_backbone_alone():
    backbone = create_backbone("dino_vits8")
    image = jnp.zeros((1, 32, 32, 3))
    alone = jax.eval_shape(backbone.init, jax.random.key(0), image)["params"]
    whole = jax.eval_shape(MaskFormer(backbone).init, jax.random.key(0), image)["params"]
    assert shapes(whole["encoder"]) == shapes(alone)


def test_parameter_count_and_shapes_at_full_size():
    model = MaskFormer(create_backbone("dino_vits8"))
    image = jax.ShapeDtypeStruct((2, 224, 320, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    d = 384
    attention = 4 * (d * d + d)
    layer = 2 * attention + (4 * d * d + 4 * d) + (4 * d * d + d) + 3 * 2 * d
    decoder = 6 * layer + 2 * d + 20 * d + 2 * (d * d + d) + (d + 1)
    encoder_parameters = 21_670_272
    assert sum(x.size for x in jax.tree.leaves(params)) == encoder_parameters + decoder
    out = jax.eval_shape(model.apply, {"params": params}, image)
    assert out["masks"].shape == (2, 6, 20, 56, 80)
    assert out["objectness"].shape == (2, 6, 20)


SMALL = MaskFormer(encoder(), num_queries=6, num_layers=2)


def test_permuted_queries_give_permuted_masks():
    params, image = random_params(SMALL), random_image(3, 24, 16)
    order = np.array([3, 0, 5, 1, 4, 2])
    out = run(SMALL, params, image)
    permuted = run(SMALL, params | {"query_embedding": params["query_embedding"][order]}, image)
    for name in ("masks", "objectness"):
        assert np.abs(out[name][:, -1, 0] - out[name][:, -1, 1]).max() > 0.01
        np.testing.assert_allclose(permuted[name], out[name][:, :, order], atol=1e-4)


def test_images_of_a_batch_do_not_see_each_other():
    params, image = random_params(SMALL), random_image(3, 24, 16)
    out = run(SMALL, params, image)
    shuffled = run(SMALL, params, image[np.array([1, 0, 0])])
    for name in ("masks", "objectness"):
        assert np.abs(out[name][0] - out[name][1]).max() > 0.01
        np.testing.assert_allclose(shuffled[name][0], out[name][1], atol=1e-4)


def test_bfloat16_encoder_is_close_and_results_are_float32():
    params, image = random_params(SMALL), random_image(3, 24, 16)
    exact = run(SMALL, params, image)
    with jax.numpy_dtype_promotion("strict"):
        out = run(MaskFormer(encoder(dtype=jnp.bfloat16), 6, 2), params, image)
    for name, values in exact.items():
        assert out[name].dtype == jnp.float32
        error = np.linalg.norm(out[name] - values) / np.linalg.norm(values)
        assert 1e-5 < error < 0.05, (name, error)


def test_gradient_reaches_the_encoder():
    params, image = random_params(SMALL), random_image(1, 16, 24)

    @jax.jit
    def gradient(params, of_masks, of_objectness):
        def total(params):
            out = SMALL.apply({"params": params}, image)
            return of_masks * jnp.sin(out["masks"]).sum() + of_objectness * out["objectness"].sum()

        return jax.grad(total)(params)

    for weights in ((1.0, 0.0), (0.0, 1.0)):
        leaves = gradient(params, *weights)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(leaves))
        for part in ("patch_embedding", "position_embedding", "norm"):
            leaf = jax.tree.leaves(leaves["encoder"][part])[0]
            assert np.abs(leaf).max() > 1e-4, (weights, part)


def test_initial_values():
    model = MaskFormer(VisionTransformer(8, 96, 1, 3), num_queries=50, num_layers=1)
    image = jnp.zeros((1, 16, 16, 3))
    first, second = (jax.jit(model.init)(jax.random.key(s), image)["params"] for s in (0, 1))
    embedding = first["query_embedding"]
    assert 0.95 < embedding.std() < 1.05
    assert np.abs(embedding - second["query_embedding"]).max() > 1
    for attention in ("self_attention", "cross_attention"):
        projections = first["layer_0"][attention]
        assert projections.keys() == {"query", "key", "value", "out"}
        for name, projection in projections.items():
            bound = 96**-0.5 if name == "out" else np.sqrt(6 / (4 * 96))
            assert 0.99 * bound < np.abs(projection["kernel"]).max() <= bound
            assert not projection["bias"].any()
    for name, fan_in in (("mlp_hidden", 96), ("mlp_output", 4 * 96)):
        for values in first["layer_0"][name].values():
            assert 0.95 * fan_in**-0.5 < np.abs(values).max() <= fan_in**-0.5
    assert 0.95 * 96**-0.5 < np.abs(first["objectness_1"]["bias"]).max() <= 96**-0.5


@pytest.mark.parametrize("name", ["num_queries", "num_layers", "scale"])
def test_refuses_sizes_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        MaskFormer(encoder(), **{name: 0}).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


def test_refuses_an_image_that_the_patch_does_not_divide():
    with pytest.raises(ValueError, match="image is 20 x 16 pixels, which patch size 8 does not"):
        MaskFormer(encoder()).init(jax.random.key(0), jnp.zeros((1, 20, 16, 3)))
