"""Ports of vision transformers against the transformers and timm that are installed."""

import contextlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from sempart_jax.networks.porting import port_backbone
from sempart_jax.networks.released import read_released_vit

REASON = "transformers or timm is not installed: see `make test-ports`"
torch = pytest.importorskip("torch", reason=REASON)
try:
    import torchvision  # noqa: F401
except RuntimeError:
    # What is beside a CPU build of PyTorch may be built for CUDA. Then it has no operators, and
    # all that its import wants is that these two are declared.
    DECLARED = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        DECLARED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
except ImportError:
    pytest.skip(REASON, allow_module_level=True)
timm = pytest.importorskip("timm", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)

WIDTH, DEPTH, GRID = 128, 2, 4
TRANSFORMERS = {
    # family, options, and whether the position is resampled as in the original
    "dinov2": ("Dinov2", {"patch_size": 14}, False),
    "dinov2 gated": ("Dinov2", {"patch_size": 14, "use_swiglu_ffn": True}, False),
    "dinov2 registers": ("Dinov2WithRegisters", {"patch_size": 14}, True),
    "dinov3": ("DINOv3ViT", {"intermediate_size": 4 * WIDTH, "num_register_tokens": 4}, True),
    "dinov3 gated": (
        "DINOv3ViT",
        {
            "intermediate_size": 3 * WIDTH,
            "num_register_tokens": 4,
            "use_gated_mlp": True,
            "hidden_act": "silu",
        },
        True,
    ),
    "vit": ("ViT", {"intermediate_size": 4 * WIDTH, "layer_norm_eps": 1e-6}, False),
    "mae": (
        "ViTMAE",
        {"intermediate_size": 4 * WIDTH, "layer_norm_eps": 1e-6, "mask_ratio": 0.0},
        False,
    ),
}
TIMM = {
    "vit_small_patch16_224.dino": False,
    "vit_base_patch16_224.mae": False,
    "vit_small_patch14_dinov2": False,
    "vit_small_patch14_reg4_dinov2": True,
    "vit_small_patch16_dinov3": True,
    "vit_small_patch16_dinov3_qkvb": True,
    "vit_small_plus_patch16_dinov3": True,
}


def randomize(model):
    """Draw all parameters, also those that begin as zeros, ones or hardly anything."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.1 if parameter.ndim == 2 else 0.5
            parameter.normal_(0, scale, generator=generator)
    return model.eval()


def images(patch_size, resampled_alike):
    sizes = [(GRID, GRID), *([(3, 5)] if resampled_alike else [])]
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, 3, rows * patch_size, columns * patch_size, generator=generator)
        for rows, columns in sizes
    ]


@contextlib.contextmanager
def kept_outputs(modules):
    """Keep what the modules last gave, by name."""
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.__setitem__(name, output.numpy())

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    yield kept
    for hook in hooks:
        hook.remove()


def numpy_state(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def assert_same(port, image, expected):
    module, params = port
    found = jax.jit(module.apply)({"params": params}, image.numpy().transpose(0, 2, 3, 1))
    for name, values in expected.items():
        if name != "tokens":
            values = values[:, module.prefix :].reshape(found[name].shape)
        tolerance = 1e-5 * np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name, tmp_path):
    family, options, resampled_alike = TRANSFORMERS[name]
    config = getattr(transformers, f"{family}Config")(
        **{"patch_size": 16} | options,
        image_size=GRID * options.get("patch_size", 16),
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=WIDTH // 64,
    )
    model = randomize(getattr(transformers, f"{family}Model")(config))
    model.save_pretrained(tmp_path)
    ports = [
        port_backbone(numpy_state(model)),
        read_released_vit(tmp_path / "model.safetensors"),
    ]
    last = f".{DEPTH - 1}.attention."
    parts = {"queries": "q_proj", "keys": "k_proj", "values": "v_proj"}
    projections = {
        kind: module
        for kind, part in parts.items()
        for path, module in model.named_modules()
        if path.endswith(f"{last}{part}")
    }
    assert projections.keys() == parts.keys()
    for image in images(config.patch_size, resampled_alike):
        patches = image[0, 0].numel() // config.patch_size**2
        # MAE shuffles the patches by noise: this leaves them where they are.
        order = {"noise": torch.arange(patches).expand(2, -1)} if family == "ViTMAE" else {}
        with torch.no_grad(), kept_outputs(projections) as expected:
            expected["tokens"] = model(image, **order).last_hidden_state.numpy()
        for port in ports:
            assert_same(port, image, expected)


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, tmp_path):
    patch_size = 14 if "patch14" in name else 16
    model = timm.create_model(
        name,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=WIDTH // 64,
        img_size=GRID * patch_size,
        dynamic_img_size=True,
    )
    randomize(model)
    safetensors.numpy.save_file(numpy_state(model), tmp_path / "model.safetensors")
    port = read_released_vit(tmp_path / "model.safetensors")
    for image in images(patch_size, TIMM[name]):
        with torch.no_grad(), kept_outputs({"qkv": model.blocks[-1].attn.qkv}) as kept:
            expected = {"tokens": model.forward_features(image).numpy()}
        if "qkv" in kept:
            parts = np.split(kept["qkv"], 3, axis=-1)
            expected |= dict(zip(("queries", "keys", "values"), parts, strict=True))
        assert_same(port, image, expected)
