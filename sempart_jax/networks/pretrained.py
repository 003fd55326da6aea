"""Pretrained backbones by name: download or local file, checked and ported to Flax."""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from sempart_jax.kernels.tensor_tree import check_tensors, flatten, unflatten
from sempart_jax.networks.model_format import (
    BACKBONE,
    is_model_file,
    read_description,
    read_tensors,
)
from sempart_jax.networks.names import BACKBONES
from sempart_jax.networks.porting import port_head, port_vit
from sempart_jax.networks.released import read_released_vit, vit_shape
from sempart_jax.two_tricks.vit import VisionTransformer

__all__ = ["HUB_REPOSITORIES", "load_backbone_params", "port_head", "port_vit"]

HUB_REPOSITORIES: Mapping[str, str] = {
    "dino_vits8": "timm/vit_small_patch8_224.dino",
    "dino_vits16": "timm/vit_small_patch16_224.dino",
    "dino_vitb8": "timm/vit_base_patch8_224.dino",
    "dino_vitb16": "timm/vit_base_patch16_224.dino",
}
"""Hugging Face repositories of the backbones' weights; a backbone without one needs a file."""

HUB_FILE = "model.safetensors"
BACKBONE_FILE = "backbone.safetensors"
"""What a run of pretraining leaves in its directory."""
IBOT_SOURCE = "https://github.com/bytedance/ibot"
WEIGHTS_FLAG = "--config.backbone.weights=PATH (in training) or --weights=PATH (elsewhere)"


def create_backbone(name: str, dtype: DTypeLike = jnp.float32) -> VisionTransformer:
    """Return the module of a backbone in ``BACKBONES``.

    Args:
        name: one of the names in ``BACKBONES``.
        dtype: type of the matrix products, float32 or bfloat16.

    Raises:
        ValueError: there is no such backbone.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    return VisionTransformer(**dataclasses.asdict(BACKBONES[name]), dtype=dtype)


def load_backbone_params(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    cache_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Load the pretrained parameters of a backbone.

    Args:
        name: one of ``sempart_jax.networks.names.BACKBONES``.
        weights: file with the weights (``.safetensors``, ``.npz``, ``.pth``), by the names of
            facebookresearch/dino; whole checkpoints of self-supervised training are taken, too,
            and so are a model file of this project that holds the backbone, and the directory of
            a run of ``sempart_jax.pretrain``. Without it the file comes from the Hugging Face hub,
            or from its cache.
        cache_dir: folder of the download cache instead of the hub's own.

    Returns:
        Parameters for ``create_backbone(name)``, float32.

    Raises:
        FileNotFoundError: the file is not there, or could not be had from the hub.
        ModuleNotFoundError: a PyTorch file, and PyTorch is not installed.
        ValueError: the name is unknown, the file is no weight file, or its tensors are not those
            of this backbone.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    path = Path(weights) if weights is not None else _download(name, cache_dir)
    if path.is_dir():
        path = path / BACKBONE_FILE
        if not path.exists():
            raise FileNotFoundError(
                f"{weights} is a folder without {BACKBONE_FILE}: name a file of weights, or a run "
                "of sempart_jax.pretrain that has written a checkpoint"
            )
    if is_model_file(path):
        return _read_own(name, path)
    try:
        params = read_released_vit(path)
    except ValueError as error:
        raise ValueError(f"backbone {name!r} from {error}") from error
    _check_architecture(params, name, path)
    return params


def _read_own(name: str, path: Path) -> dict[str, Any]:
    """Take the backbone out of a model file of this project."""
    held = read_description(path).backbone
    tensors = read_tensors(path, BACKBONE)
    if held != name or not tensors:
        found = f"the backbone {held!r}" if tensors else f"a head for {held!r} and no backbone"
        raise ValueError(f"{path} holds {found}, but {name!r} is wanted: name another file")
    module = create_backbone(name)
    side = module.patch_size
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    shapes = {key: leaf.shape for key, leaf in flatten(variables["params"], BACKBONE).items()}
    position = f"{BACKBONE}position_embedding"
    if position in tensors:
        shapes[position] = _square_grid(shapes[position], tensors[position].shape)
    check_tensors(path, tensors, shapes, f"the backbone {name!r}")
    return unflatten(tensors, BACKBONE)


def _square_grid(expected: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """Accept a position embedding of any square grid, for it is resampled."""
    rows = found[1] if len(found) == 3 else 0
    is_square = rows > 1 and math.isqrt(rows - 1) ** 2 == rows - 1
    return (expected[0], rows, expected[2]) if is_square else expected


def _download(name: str, cache_dir: str | Path | None) -> Path:
    if name not in HUB_REPOSITORIES:
        source = "name a file of weights"
        if name.startswith("ibot"):
            source = f"get its teacher checkpoint (.pth) from {IBOT_SOURCE} and name the file"
        raise FileNotFoundError(f"backbone {name!r} has no download: {source} with {WEIGHTS_FLAG}")
    repository = HUB_REPOSITORIES[name]
    # Only here: weights that lie on the disk need no hub.
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE, cache_dir=cache_dir))
    # A connection that breaks off is an exception of the hub's HTTP library, another in each of its
    # versions, and not always an OSError.
    except Exception as error:
        folder = cache_dir or huggingface_hub.constants.HF_HUB_CACHE
        raise FileNotFoundError(
            f"backbone {name!r}: {HUB_FILE} of {repository} is neither in the cache {folder} nor "
            "could it be downloaded. Fetch "
            f"https://huggingface.co/{repository}/resolve/main/{HUB_FILE} on a machine with a "
            f"network, copy it here, and name the file with {WEIGHTS_FLAG} ({error})"
        ) from error


def _check_architecture(params: Mapping[str, Any], name: str, path: Path) -> None:
    patch_size, width, depth = vit_shape(params)
    expected = BACKBONES[name]
    if (patch_size, width, depth) != (expected.patch_size, expected.width, expected.depth):
        raise ValueError(
            f"{path} holds a vision transformer of patch size {patch_size}, width {width} and "
            f"depth {depth}, but {name!r} has patch size {expected.patch_size}, width "
            f"{expected.width} and depth {expected.depth}: name another file or another backbone"
        )
