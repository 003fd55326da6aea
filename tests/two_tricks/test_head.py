"""The segmentation head: golden values, parameter count, shapes, dtypes, shared batch norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from sempart_jax.kernels.convolution import convolve_3x3
from sempart_jax.networks.porting import port_head
from sempart_jax.two_tricks.head import Convolution, SegmentationHead, TransformerLayer


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 1, -1))


def with_prefix(values, prefix):
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }


def initialise(patch_size=8, patches=(3, 4), depth=48, batch=2):
    head = SegmentationHead(patch_size=patch_size)
    rng = np.random.default_rng(0)
    keys = jnp.asarray(rng.normal(size=(batch, *patches, depth)), jnp.float32)
    size = [side * patch_size for side in patches]
    image = jnp.asarray(rng.normal(size=(batch, *size, 3)), jnp.float32)
    return head, jax.jit(head.init)(jax.random.key(0), keys, image), keys, image


def test_an_image_beside_the_features_is_more_channels_of_them():
    rng = np.random.default_rng(0)
    x, image = (jnp.asarray(rng.normal(size=(2, 4, 5, c)), jnp.float32) for c in (6, 3))
    module = Convolution(7)
    variables = jax.jit(module.init)(jax.random.key(0), x, image)
    together = jnp.concatenate([x, image], axis=-1)
    assert variables["params"]["kernel"].shape == (3, 3, 9, 7)

    def split(params, x):
        return module.apply({"params": params}, x, image)

    def whole(params, x):
        together = jnp.concatenate([x, image], axis=-1)
        return convolve_3x3(together, params["kernel"]) + params["bias"].reshape(1, 1, 1, -1)

    np.testing.assert_allclose(
        split(variables["params"], x), module.apply(variables, together), atol=1e-5
    )

    def gradients(function):
        loss = jax.grad(lambda *a: jnp.sum(jnp.sin(function(*a))), argnums=(0, 1))
        return jax.jit(loss)(variables["params"], x)

    ours, expected = gradients(split), gradients(whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, expected)


def test_golden_logits_in_evaluation(golden):
    values = golden("head")
    variables = port_head(with_prefix(values, "param/"))
    logits = jax.jit(SegmentationHead(patch_size=8).apply)(
        variables, channels_last(values["features"]), channels_last(values["image"])
    )
    for name in ("coarse", "fine"):
        np.testing.assert_allclose(
            logits[name], channels_last(values[f"{name}_logits_eval"]), rtol=1e-4, atol=1e-4
        )


def test_golden_training_call(golden):
    values = golden("head")
    variables = port_head(with_prefix(values, "param/"))
    keys, image = channels_last(values["features"]), channels_last(values["image"])
    head = SegmentationHead(patch_size=8)

    @jax.jit
    def objective(params):
        logits, updates = head.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            keys,
            image,
            train=True,
            mutable=["batch_stats"],
        )
        value = jnp.mean(logits["fine"] * channels_last(values["cotangent_fine"])) + jnp.mean(
            logits["coarse"] * channels_last(values["cotangent_coarse"])
        )
        return value, (logits, updates["batch_stats"])

    gradient, (logits, statistics) = jax.grad(objective, has_aux=True)(variables["params"])
    for name in ("coarse", "fine"):
        np.testing.assert_allclose(
            logits[name], channels_last(values[f"{name}_logits_train"]), rtol=1e-4, atol=1e-4
        )

    # The port brings the golden running statistics and gradients under the names of our tree.
    after = port_head(with_prefix(values, "param/") | with_prefix(values, "running/"))
    n = image.shape[0]
    for stage, block, (height, width) in [
        (0, 0, (20, 24)),
        (1, 0, (40, 48)),
        (2, 0, (80, 96)),
        (2, 1, (80, 96)),
    ]:
        ours = statistics[f"stage_{stage}"][f"block_{block}"]["norm"]
        theirs = after["batch_stats"][f"stage_{stage}"][f"block_{block}"]["norm"]
        before = variables["batch_stats"][f"stage_{stage}"][f"block_{block}"]["norm"]
        np.testing.assert_allclose(ours["mean"], theirs["mean"], rtol=1e-4, atol=1e-5)
        # PyTorch's running variance is the unbiased one, n / (n - 1) of ours.
        count = n * height * width
        kept = 0.9 * before["var"]
        unbiased = kept + (ours["var"] - kept) * count / (count - 1)
        np.testing.assert_allclose(unbiased, theirs["var"], rtol=1e-4, atol=1e-6)

    # The golden file has no kernel gradients of the 3x3 convolutions: the port needs stand-ins.
    gradients = with_prefix(values, "param/") | with_prefix(values, "grad/")
    expected = port_head(gradients)["params"]
    kernels = [f"stage_{s}/block_{b}/conv/kernel" for s, b in [(0, 0), (1, 0), (2, 0), (2, 1)]]
    compared = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in kernels:
            continue
        ours = gradient
        for part in name.split("/"):
            ours = ours[part]
        # A sum of many products is rounded by their scale, which varies by machine; a bias before
        # batch norm has gradient zero but for rounding.
        scale = max(2e-6, 4e-3 * np.abs(leaf).max())
        np.testing.assert_allclose(ours, leaf, rtol=1e-3, atol=scale, err_msg=name)
        compared += 1
    assert compared == 40


def test_parameter_count_at_patch_8():
    head = SegmentationHead(patch_size=8)
    shapes = jax.eval_shape(
        head.init, jax.random.key(0), jnp.zeros((1, 2, 2, 384)), jnp.zeros((1, 16, 16, 3))
    )
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == 748_165


@pytest.mark.parametrize(("patch_size", "stages"), [(2, 1), (4, 2), (8, 3), (14, 4), (16, 4)])
def test_stages_and_channels_follow_the_patch_size(patch_size, stages):
    head, variables, keys, image = initialise(patch_size, (2, 3))
    logits = jax.jit(head.apply)(variables, keys, image)
    assert logits["coarse"].shape == (2, 2, 3, 1)
    assert logits["fine"].shape == (2, 2 * patch_size, 3 * patch_size, 1)
    names = sorted(name for name in variables["params"] if name.startswith("stage"))
    assert names == [f"stage_{i}" for i in range(stages)]
    channels = [variables["params"][name]["block_0"]["conv"]["kernel"].shape[2:] for name in names]
    assert channels == [(67, 192), (195, 128), (131, 128), (131, 128)][:stages]
    assert "block_1" in variables["params"][names[-1]]


def test_all_initial_values_lie_within_the_fan_in_bound():
    _, variables, _, _ = initialise(depth=384)
    kernel = variables["params"]["input_projection"]["kernel"]
    assert 0.95 / np.sqrt(384) < np.abs(kernel).max() <= 1 / np.sqrt(384)
    kernel = variables["params"]["stage_0"]["block_0"]["conv"]["kernel"]
    assert 0.95 / np.sqrt(9 * 67) < np.abs(kernel).max() <= 1 / np.sqrt(9 * 67)


def test_evaluation_does_not_mix_the_images_of_a_batch():
    head, variables, keys, image = initialise()
    together = jax.jit(head.apply)(variables, keys, image)
    alone = jax.jit(head.apply)(variables, keys[:1], image[:1])
    np.testing.assert_allclose(together["fine"][:1], alone["fine"], atol=1e-5)


def test_batch_statistics_are_those_of_all_devices():
    head, variables, keys, image = initialise(batch=4)
    whole, updates = jax.jit(
        lambda k, i: head.apply(variables, k, i, train=True, mutable=["batch_stats"])
    )(keys, image)
    mapped = SegmentationHead(patch_size=8, axis_name="device")

    def on_device(k, i):
        return mapped.apply(variables, k, i, train=True, mutable=["batch_stats"])

    spread, spread_updates = jax.pmap(on_device, axis_name="device")(
        keys.reshape(4, 1, *keys.shape[1:]), image.reshape(4, 1, *image.shape[1:])
    )
    np.testing.assert_allclose(spread["fine"][:, 0], whole["fine"], atol=1e-5)
    for ours, expected in zip(
        jax.tree.leaves(spread_updates), jax.tree.leaves(updates), strict=True
    ):
        np.testing.assert_allclose(ours[0], expected, atol=1e-6)


def test_bfloat16_and_vmap_and_gradient_without_nan():
    head, variables, keys, image = initialise()
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)

    @jax.jit
    def loss(params, keys, image):
        logits = head.apply({**narrow, "params": params}, keys, image)
        return sum(jnp.sum(x.astype(jnp.float32)) for x in logits.values())

    value, gradient = jax.jit(jax.value_and_grad(loss))(
        narrow["params"], keys.astype(jnp.bfloat16), image.astype(jnp.bfloat16)
    )
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x.astype(jnp.float32))) for x in jax.tree.leaves(gradient))
    mapped = jax.jit(jax.vmap(lambda k, i: head.apply(variables, k[None], i[None])["fine"][0]))
    np.testing.assert_allclose(
        mapped(keys, image), jax.jit(head.apply)(variables, keys, image)["fine"], atol=1e-4
    )


def test_transformer_layer_equals_float64_where_the_attention_takes_several_blocks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 601, 64)).astype(np.float32)
    layer = TransformerLayer()
    params = jax.jit(layer.init)(jax.random.key(0), jnp.asarray(x))["params"]
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        return x * params[name]["scale"] + params[name]["bias"]

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name].get("bias", 0.0)

    qkv = dense(norm(x.astype(np.float64), "attention_norm"), "query_key_value")
    query, key, value = np.moveaxis(qkv.reshape(2, 601, 3, 2, 64), 2, 0)
    weights = np.exp(np.einsum("bqhd,bkhd->bhqk", query, key) / 8)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), value)
    y = x + dense(mixed.reshape(2, 601, 128), "attention_output")
    hidden = dense(norm(y, "mlp_norm"), "mlp_hidden")
    gelu = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    expected = y + dense(gelu, "mlp_output")

    variables = {"params": jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)}
    out = jax.jit(layer.apply)(variables, jnp.asarray(x))
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=0)


def test_memory_of_training_grows_with_the_patches_and_not_with_their_square():
    head = SegmentationHead(patch_size=2)

    def temporary_bytes(side):
        keys = jax.ShapeDtypeStruct((1, side, side, 8), jnp.float32)
        image = jax.ShapeDtypeStruct((1, 2 * side, 2 * side, 3), jnp.float32)
        variables = jax.eval_shape(head.init, jax.random.key(0), keys, image)

        def mean(params, variables, keys, image):
            logits, _ = head.apply(
                {**variables, "params": params}, keys, image, train=True, mutable=["batch_stats"]
            )
            return jnp.mean(logits["coarse"])

        step = jax.jit(jax.value_and_grad(mean))
        compiled = step.lower(variables["params"], variables, keys, image).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(80) < 5 * temporary_bytes(40)


def test_errors_name_the_sizes():
    head, variables, keys, image = initialise()
    with pytest.raises(ValueError, match="24x32 pixels, got 16x32"):
        head.apply(variables, keys, image[:, :16])
    with pytest.raises(ValueError, match="patch_size"):
        SegmentationHead(patch_size=1).init(jax.random.key(0), keys, image)
