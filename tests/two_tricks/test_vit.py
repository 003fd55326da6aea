import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sempart_jax.kernels.attention import ROWS_OF_A_HEAD
from sempart_jax.networks.names import BACKBONES
from sempart_jax.networks.porting import port_vit
from sempart_jax.networks.pretrained import create_backbone
from sempart_jax.two_tricks.vit import VisionTransformer, interpolate_position_embedding
from tests.two_tricks import dino_reference

WIDTH, DEPTH, HEADS, GRID = 24, 2, 3, 3


def small_vit(patch_size: int = 8, **fields) -> VisionTransformer:
    return VisionTransformer(patch_size, WIDTH, DEPTH, HEADS, **fields)


def small_state(patch_size: int = 8, grid: int = GRID) -> dict[str, np.ndarray]:
    return dino_reference.seeded_state_dict(patch_size, WIDTH, DEPTH, grid)


def run(vit: VisionTransformer, params, image, class_attention: bool = False):
    def apply(params, image):
        return vit.apply({"params": params}, image, class_attention)

    return jax.jit(apply)(params, image)


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, 3)).astype(np.float32)


def count(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_golden_values(golden):
    values = golden("dino_vit")
    state = {k.removeprefix("param/"): v for k, v in values.items() if k.startswith("param/")}
    image = values["image"].transpose(0, 2, 3, 1)
    out = run(VisionTransformer(8, 48, 3, 3), port_vit(state), image, class_attention=True)
    rows, columns = image.shape[1] // 8, image.shape[2] // 8
    keys = values["keys"][:, 1:].reshape(2, rows, columns, 48)
    np.testing.assert_allclose(out["keys"], keys, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(out["tokens"], values["tokens"], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(
        out["class_attention"], values["last_attention"][:, :, 0], atol=1e-6, rtol=1e-4
    )


@pytest.mark.slow
def test_full_size_at_320_pixels_agrees_with_float64():
    architecture = BACKBONES["dino_vits8"]
    state = dino_reference.seeded_state_dict(8, 384, 12, grid=28)
    params = port_vit(state)
    assert count(params) == 21_670_272
    image = random_image(1, 320, 320)
    expected = dino_reference.forward(state, image, architecture.num_heads)
    out = run(create_backbone("dino_vits8"), params, image)
    assert out["keys"].shape == (1, 40, 40, 384)
    assert expected["keys"].std() > 0.5  # so that the tolerance below means something
    np.testing.assert_allclose(out["keys"], expected["keys"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(out["tokens"], expected["tokens"], atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("patch_size", "size"), [(8, (24, 24)), (8, (16, 56)), (16, (64, 32)), (4, (8, 4))]
)
def test_agrees_with_float64(patch_size, size):
    state = small_state(patch_size)
    image = random_image(2, *size)
    expected = dino_reference.forward(state, image, HEADS)
    out = run(small_vit(patch_size), port_vit(state), image, class_attention=True)
    assert out.keys() == expected.keys()
    for name, values in expected.items():
        assert out[name].dtype == jnp.float32
        np.testing.assert_allclose(out[name], values, atol=2e-5, rtol=0, err_msg=name)


def test_class_attention_comes_only_when_asked_and_sums_to_one():
    params = port_vit(small_state())
    image = random_image(2, 32, 24)
    assert run(small_vit(), params, image).keys() == {"keys", "queries", "values", "tokens"}
    attention = run(small_vit(), params, image, class_attention=True)["class_attention"]
    assert attention.shape == (2, HEADS, 1 + 4 * 3)
    np.testing.assert_allclose(attention.sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(("trained", "rows", "columns"), [(1, 3, 14), (9, 2, 5), (4, 13, 4)])
def test_interpolation_agrees_with_bicubic_reference(trained, rows, columns):
    table = np.random.default_rng(0).standard_normal((1, 1 + trained**2, 5)).astype(np.float32)
    interpolate = jax.jit(interpolate_position_embedding, static_argnums=1)
    out = interpolate(jnp.asarray(table), (rows, columns))
    np.testing.assert_allclose(
        out, dino_reference.resample(table, rows, columns), atol=2e-5, rtol=0
    )


def test_interpolation_keeps_the_trained_grid_exactly():
    table = jnp.asarray(np.random.default_rng(0).standard_normal((1, 17, 5)), jnp.float32)
    assert interpolate_position_embedding(table, (4, 4)) is table
    # As many patches in another form are another grid.
    interpolate = jax.jit(interpolate_position_embedding, static_argnums=1)
    assert not np.allclose(interpolate(table, (2, 8)), table, atol=1e-2)


def test_interpolation_keeps_a_constant():
    table = jnp.ones((1, 1 + 7 * 7, 3))
    interpolate = jax.jit(interpolate_position_embedding, static_argnums=1)
    np.testing.assert_allclose(interpolate(table, (10, 4)), 1.0, rtol=1e-5)


def test_interpolation_refuses_a_grid_that_is_not_square():
    with pytest.raises(ValueError, match=r"position_embedding has 12 rows, expected 1 \+ N \* N"):
        interpolate_position_embedding(jnp.zeros((1, 12, 4)), (2, 2))


def test_bfloat16_is_close_and_returns_float32():
    state = dino_reference.seeded_state_dict(8, 96, 4, grid=7)
    params = port_vit(state)
    image = random_image(2, 64, 64)
    exact = run(VisionTransformer(8, 96, 4, 3), params, image, class_attention=True)
    out = run(VisionTransformer(8, 96, 4, 3, jnp.bfloat16), params, image, class_attention=True)
    for name, values in exact.items():
        assert out[name].dtype == jnp.float32, name
        error = np.linalg.norm(out[name] - values) / np.linalg.norm(values)
        assert 1e-5 < error < 0.02, (name, error)
    np.testing.assert_allclose(out["class_attention"].sum(-1), 1.0, rtol=1e-5)


def test_bfloat16_survives_large_activations():
    state = small_state()
    # A common offset of 1000 would leave bfloat16 statistics no digit of the deviations.
    state["cls_token"] = state["cls_token"] + 1000
    state["pos_embed"] = state["pos_embed"] + 1000
    image = random_image(1, 24, 24)
    params = port_vit(state)
    exact = run(small_vit(), params, image)["keys"]
    out = run(small_vit(dtype=jnp.bfloat16), params, image)["keys"]
    assert np.isfinite(out).all()
    assert np.linalg.norm(out - exact) / np.linalg.norm(exact) < 0.03


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_promotes_no_dtype_silently(dtype):
    params = port_vit(small_state())
    with jax.numpy_dtype_promotion("strict"):
        out = run(small_vit(dtype=dtype), params, random_image(1, 16, 24), class_attention=True)
    assert {value.dtype for value in out.values()} == {jnp.dtype(jnp.float32)}


def test_vmap_agrees_with_the_whole_batch():
    params = port_vit(small_state())
    image = random_image(3, 32, 16)
    whole = run(small_vit(), params, image)["keys"]
    mapped = jax.jit(jax.vmap(lambda x: run(small_vit(), params, x[None])["keys"][0]))(image)
    np.testing.assert_allclose(mapped, whole, atol=1e-5)


def test_jit_leaves_out_the_rest_of_the_last_block_for_keys():
    variables = {"params": port_vit(small_state())}
    image = jnp.asarray(random_image(1, 64, 64))

    def operations(depth: int, name: str) -> float:
        vit = VisionTransformer(8, WIDTH, depth, HEADS)
        compiled = jax.jit(lambda v, x: vit.apply(v, x)[name]).lower(variables, image).compile()
        return compiled.cost_analysis()["flops"]

    tokens, width = 65, WIDTH
    # Per token: the attention (QK and AV), its projection, and both layers of the MLP.
    last = 2 * tokens * (2 * tokens * width + width**2 + 8 * width**2)
    assert operations(2, "tokens") - operations(2, "keys") > 0.95 * last


def test_gradient_agrees_with_finite_differences():
    vit = VisionTransformer(4, 8, 1, 2)
    params = port_vit(dino_reference.seeded_state_dict(4, 8, 1, grid=2))
    image = random_image(1, 8, 12)

    def mean(params):
        out = run(vit, params, image)
        return jnp.mean(out["keys"] ** 2) + jnp.mean(out["tokens"][:, 0] ** 3)

    check_grads(jax.jit(mean), (params,), order=1, modes=["rev"], eps=1e-3, rtol=5e-3)


def test_attention_in_several_blocks_agrees_with_float64():
    # 35 x 32 patches and the class token are more than one block of queries, and divide into none.
    state = small_state()
    image = random_image(1, 280, 256)
    assert ROWS_OF_A_HEAD < 1 + 35 * 32
    expected = dino_reference.forward(state, image, HEADS)
    out = run(small_vit(), port_vit(state), image, class_attention=True)
    for name, values in expected.items():
        np.testing.assert_allclose(out[name], values, atol=2e-5, rtol=0, err_msg=name)


def tokens_and_gradient(vit, params, image):
    def objective(params):
        out = vit.apply({"params": params}, image, class_attention=True)
        return sum(jnp.mean(jnp.sin(value)) for value in out.values()), out

    return jax.jit(jax.grad(objective, has_aux=True))(params)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_computing_blocks_again_changes_neither_results_nor_gradient(depth, dtype):
    params = port_vit(dino_reference.seeded_state_dict(8, WIDTH, depth, GRID))
    image = random_image(2, 24, 32)
    vits = [
        VisionTransformer(8, WIDTH, depth, HEADS, dtype, remat=remat) for remat in (False, True)
    ]
    (gradient, out), (gradient_again, out_again) = (
        tokens_and_gradient(vit, params, image) for vit in vits
    )
    # In bfloat16 the compiler may round at other places.
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == jnp.float32 else 2e-2}
    for name, values in out.items():
        np.testing.assert_allclose(out_again[name], values, **tolerance, err_msg=name)
    assert jax.tree.structure(gradient) == jax.tree.structure(gradient_again)
    for ours, expected in zip(
        jax.tree.leaves(gradient_again), jax.tree.leaves(gradient), strict=True
    ):
        scale = max(float(np.abs(expected).max()), 1e-3)
        np.testing.assert_allclose(ours / scale, expected / scale, **tolerance)


def test_first_parameters_do_not_depend_on_computing_blocks_again():
    image = jnp.zeros((1, 16, 16, 3))
    plain, again = (
        jax.jit(small_vit(remat=remat).init)(jax.random.key(3), image) for remat in (False, True)
    )
    jax.tree.map(np.testing.assert_array_equal, plain, again)


def training_memory(vit, side, batch=1):
    params = jax.eval_shape(
        lambda: VisionTransformer(8, vit.width, vit.depth, vit.num_heads).init(
            jax.random.key(0), jnp.zeros((1, 16, 16, 3))
        )
    )["params"]
    image = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)

    def mean(params, image):
        return jnp.mean(vit.apply({"params": params}, image)["tokens"] ** 2)

    compiled = jax.jit(jax.value_and_grad(mean)).lower(params, image).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("remat", [False, True])
def test_memory_of_training_grows_with_the_patches_and_not_with_their_square(remat):
    vit = small_vit(remat=remat)
    assert training_memory(vit, 640) < 5 * training_memory(vit, 320)


def test_computing_blocks_again_keeps_little_of_each():
    deep = [VisionTransformer(8, WIDTH, 8, HEADS, remat=remat) for remat in (False, True)]
    plain, again = (training_memory(vit, 160) for vit in deep)
    assert again < 0.4 * plain


@pytest.mark.parametrize("name", [n for n, known in BACKBONES.items() if not known.layer_scale])
def test_backbones_initialise_in_the_shapes_of_their_weights(name):
    architecture = dataclasses.asdict(BACKBONES[name]) | {"depth": 1}
    vit = VisionTransformer(**architecture)
    patch_size, width = vit.patch_size, vit.width
    fresh = jax.eval_shape(vit.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    ported = port_vit(
        dino_reference.seeded_state_dict(patch_size, width, 1, grid=224 // patch_size)
    )
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, ported)
    assert create_backbone(name).depth == 12
    assert width // vit.num_heads == 64


def test_initial_values_are_as_spread_as_the_originals():
    # cut off at a hundred deviations there; cut off at two, the deviation would be 0.0176
    vit = VisionTransformer(8, 192, 1, 3)
    params = jax.jit(vit.init)(jax.random.key(0), random_image(1, 8, 8))["params"]
    for kind in ("query_key_value", "attention_output", "mlp_hidden", "mlp_output"):
        layer = params["block_0"][kind]
        assert 0.0195 < layer["kernel"].std() < 0.0205, kind
        assert not layer["bias"].any()
    assert 0.0195 < params["position_embedding"].std() < 0.0205
    assert 0.0175 < params["class_token"].std() < 0.0225  # of 192 values
    assert np.abs(params["position_embedding"]).max() > 0.06


def test_initial_values_depend_on_the_key_and_are_finite():
    init = jax.jit(small_vit(trained_grid=5).init)
    image = jnp.zeros((1, 16, 16, 3))
    first, second = (init(jax.random.key(seed), image)["params"] for seed in (0, 1))
    assert first["position_embedding"].shape == (1, 26, WIDTH)
    kernel = first["block_0"]["mlp_hidden"]["kernel"]
    assert 0.015 < kernel.std() < 0.025
    assert np.abs(kernel - second["block_0"]["mlp_hidden"]["kernel"]).max() > 0.01
    patch_kernel = first["patch_embedding"]["kernel"]
    assert 0.9 * 192**-0.5 < np.abs(patch_kernel).max() <= 192**-0.5


@pytest.mark.parametrize("size", [(36, 32), (32, 4), (0, 32)])
def test_refuses_an_image_that_the_patch_does_not_divide(size):
    variables = {"params": port_vit(small_state())}
    message = rf"image is {size[0]} x {size[1]} pixels, which patch size 8 does not divide"
    with pytest.raises(ValueError, match=message):
        small_vit().apply(variables, np.zeros((1, *size, 3), np.float32))


def test_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="num_heads 5 does not divide width 24"):
        VisionTransformer(8, 24, 1, 5).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_refuses_an_unknown_backbone():
    with pytest.raises(ValueError, match="unknown backbone 'dino_vitg2': choose one of dino_vits8"):
        create_backbone("dino_vitg2")
