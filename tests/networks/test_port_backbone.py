"""Vision transformers of several sources against values that their own code has given."""

import jax
import numpy as np
import pytest

from sempart_jax.networks.porting import port_backbone
from sempart_jax.networks.pretrained import infer_module
from tests.conftest import REFERENCE

NAMES = [
    *("original_dinov2", "original_dinov2_reg", "original_dinov2_swiglu"),
    *("original_dinov3", "original_dinov3_plus"),
    *("dinov2", "dinov2_reg", "dinov2_swiglu", "dinov3", "dinov3_plus"),
    *("timm_dino", "timm_dinov2", "timm_dinov2_reg"),
    *("timm_dinov3", "timm_dinov3_plus", "timm_dinov3_qkvb"),
]
RESIZES_ITS_OWN_WAY = {"dinov2", "timm_dino", "timm_dinov2"}
"""Sources that resample the position embedding in another way than the original."""


def load(name):
    path = REFERENCE / "golden/backbones" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"values of other implementations not found: {path} (set SEMPART_REFERENCE)")
    with np.load(path, allow_pickle=False) as arrays:
        values = dict(arrays)
    weights = {k.removeprefix("param/"): v for k, v in values.items() if k.startswith("param/")}
    return values, weights


def assert_close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_features_and_tokens(name):
    values, weights = load(name)
    module, params = port_backbone(weights, num_heads=4)
    sizes = ["0"] if name in RESIZES_ITS_OWN_WAY or "image1" not in values else ["0", "1"]
    for size in sizes:
        image = values[f"image{size}"].transpose(0, 2, 3, 1)
        output = jax.jit(module.apply)({"params": params}, image)
        assert_close(output["tokens"], values[f"tokens{size}"])

        def patches(array, prefix=module.prefix, shape=output["keys"].shape):
            return array[:, prefix:].reshape(*shape[:3], -1)

        for kind in ("keys", "queries", "values"):
            if f"{kind}{size}" in values:
                assert_close(output[kind], patches(values[f"{kind}{size}"]))
        if f"qkv_without_eva_bias{size}" in values:
            qkv = np.concatenate([output[kind] for kind in ("queries", "keys", "values")], axis=-1)
            assert_close(qkv, patches(values[f"qkv_without_eva_bias{size}"]))


@pytest.mark.parametrize("name", ["original_dinov3", "dinov2_reg", "timm_dinov3_plus"])
def test_blocks_that_are_computed_again_give_the_same(name):
    values, weights = load(name)
    module, params = port_backbone(weights, num_heads=4)
    image = values["image0"].transpose(0, 2, 3, 1)
    again = jax.jit(module.clone(remat=True).apply)({"params": params}, image)
    assert_close(again["tokens"], values["tokens0"])


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("dinov3", "model.layer.1.attention.k_proj.weight"),
        ("dinov2", "encoder.layer.2.norm1.weight"),
        ("dinov2", "encoder.layer.1.attention.k_proj.bias"),
        ("original_dinov3", "blocks.1.attn.qkv.bias"),
        ("original_dinov3", "blocks.0.ls1.gamma"),
        ("timm_dinov3_plus", "blocks.1.mlp.fc1_g.bias"),
    ],
)
def test_a_tensor_that_is_missing_is_named_as_its_source_names_it(name, lost):
    _, weights = load(name)
    del weights[lost]
    with pytest.raises(ValueError, match=lost.replace(".", r"\.")):
        port_backbone(weights, num_heads=4)


def test_a_tensor_that_is_unknown_misshapen_or_not_finite_is_named():
    _, weights = load("dinov3")
    weights["adapter.weight"] = np.zeros((2, 3), np.float32)
    weights["embeddings.cls_token"] = np.zeros((1, 1, 65), np.float32)
    weights["norm.bias"] = np.full(64, np.nan, np.float32)
    with pytest.raises(ValueError, match=r"not those of a vision transformer") as error:
        port_backbone(weights, num_heads=4)
    for line in (
        r"not known: adapter.weight (2, 3)",
        r"of another shape: embeddings.cls_token: expected (1, 1, 64), found (1, 1, 65)",
        r"with NaN or infinity: norm.bias",
    ):
        assert line in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_module_follows_from_its_parameters(name):
    module, params = port_backbone(load(name)[1])
    assert infer_module(params) == module


def test_heads_have_64_channels_unless_told():
    _, weights = load("original_dinov3")
    assert port_backbone(weights)[0].num_heads == 1
    with pytest.raises(ValueError, match="5 heads do not divide"):
        port_backbone(weights, num_heads=5)


def test_other_rotary_periods_are_refused():
    _, weights = load("original_dinov3")
    weights["rope_embed.periods"] = weights["rope_embed.periods"] * 2
    with pytest.raises(ValueError, match=r"rope_embed\.periods: rotary periods other than"):
        port_backbone(weights, num_heads=4)
