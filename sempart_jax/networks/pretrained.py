"""Pretrained backbones by name: download or local file, checked and ported to Flax."""

import dataclasses
import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.typing import DTypeLike

from sempart_jax.kernels.tensor_tree import check_tensors, flatten, unflatten
from sempart_jax.networks.model_format import (
    BACKBONE,
    is_model_file,
    read_description,
    read_tensors,
)
from sempart_jax.networks.names import ANY_VIT, BACKBONES
from sempart_jax.networks.porting import HEAD_SIZE, make_vit
from sempart_jax.networks.released import describe_vit, is_of, read_released_vit
from sempart_jax.networks.weight_files import INDEX_SUFFIX, shard_names
from sempart_jax.two_tricks.vit import VisionTransformer

HUB_REPOSITORIES: Mapping[str, str] = {
    "dino_vits8": "timm/vit_small_patch8_224.dino",
    "dino_vits16": "timm/vit_small_patch16_224.dino",
    "dino_vitb8": "timm/vit_base_patch8_224.dino",
    "dino_vitb16": "timm/vit_base_patch16_224.dino",
    "dinov2_vits14": "timm/vit_small_patch14_dinov2.lvd142m",
    "dinov2_vitb14": "timm/vit_base_patch14_dinov2.lvd142m",
    "dinov2_vitl14": "timm/vit_large_patch14_dinov2.lvd142m",
    "dinov2_vits14_reg": "timm/vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitb14_reg": "timm/vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitl14_reg": "timm/vit_large_patch14_reg4_dinov2.lvd142m",
    "dinov3_vits16": "timm/vit_small_patch16_dinov3.lvd1689m",
    "dinov3_vits16plus": "timm/vit_small_plus_patch16_dinov3.lvd1689m",
    "dinov3_vitb16": "timm/vit_base_patch16_dinov3.lvd1689m",
    "dinov3_vitl16": "timm/vit_large_patch16_dinov3.lvd1689m",
}
"""Hugging Face repositories of the backbones' weights; a backbone without one needs a file."""

HUB_FILE = "model.safetensors"
HUB_PREFIX = "hf:"
"""What stands before the name of a repository of the hub in place of a file."""
DINOV3_LICENCE = (
    "DINOv3's weights come under Meta's DINOv3 licence, which has to be passed on with them: "
    "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
)
BACKBONE_FILE = "backbone.safetensors"
"""What a run of pretraining leaves in its directory."""
IBOT_SOURCE = "https://github.com/bytedance/ibot"
WEIGHTS_FLAG = "--config.backbone.weights=PATH (in training) or --weights=PATH (elsewhere)"


class DownloadError(FileNotFoundError):
    """Weights are neither in the cache of the hub nor could they be downloaded."""


def create_backbone(name: str, dtype: DTypeLike = jnp.float32) -> VisionTransformer:
    """Return the module of a backbone in ``BACKBONES``."""
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
        weights: file with the weights (``.safetensors``, also in several files beside their
            ``.safetensors.index.json``, ``.npz``, ``.pth``), by the names of their authors, of
            transformers or of timm; ``hf:OWNER/NAME`` for a repository of the Hugging Face hub; a
            model file of this project that holds the backbone; or the directory of a run of
            ``sempart_jax.pretrain``. Without it the file comes from the hub, or from its cache.
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
    path = find_weights(name, weights, cache_dir)
    if is_model_file(path):
        return _read_own(name, path)
    known = BACKBONES[name]
    try:
        module, params = read_released_vit(path, known.num_heads)
    except ValueError as error:
        raise ValueError(f"backbone {name!r} from {error}") from error
    if not is_of(module, known):
        raise ValueError(
            f"{path} holds a vision transformer of {describe_vit(module)}, but {name!r} has "
            f"{describe_vit(known)}: name another file or another backbone"
        )
    return params


def load_any_vit(
    weights: str | os.PathLike[str] | None, cache_dir: str | Path | None = None
) -> tuple[VisionTransformer, dict[str, Any]]:
    """Load a vision transformer whose shape is read off its weights."""
    path = find_weights(ANY_VIT, weights, cache_dir)
    if not is_model_file(path):
        module, params = read_released_vit(path)
    else:
        params = unflatten(read_tensors(path, BACKBONE), BACKBONE)
        if not params:
            raise ValueError(f"{path} holds a head and no backbone: name another file")
        try:
            module = infer_module(params)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} lacks tensors that tell the shape of its backbone: get it again ({error})"
            ) from error
        if not module.num_heads or module.width % HEAD_SIZE:
            raise ValueError(
                f"{path} holds a vision transformer of width {module.width}, which heads of "
                f"{HEAD_SIZE} channels do not divide: name its backbone instead of {ANY_VIT!r}"
            )
        _check_own(path, flatten(params, BACKBONE), module, "a vision transformer")
    return module.clone(features="tokens" if module.layer_scale else "keys"), params


def infer_module(params: Mapping[str, Any]) -> VisionTransformer:
    """Make the module that parameters of a vision transformer belong to."""
    block = params.get("block_0", {})
    patch = params["patch_embedding"]["kernel"]
    return make_vit(
        patch_size=patch.shape[0],
        width=patch.shape[-1],
        depth=sum(name.startswith("block_") for name in params),
        num_heads=None,
        registers=params["registers"].shape[1] if "registers" in params else 0,
        is_rotary="position_embedding" not in params,
        hidden=block["mlp_hidden"]["kernel"].shape[1],
        gated="mlp_gate" in block,
        layer_scale="attention_scale" in block,
    )


def find_weights(
    name: str, weights: str | os.PathLike[str] | None, cache_dir: str | Path | None
) -> Path:
    """Return the file of a backbone's weights; downloads it by name, or from ``hf:OWNER/NAME``."""
    if weights is None:
        return _download(name, HUB_REPOSITORIES.get(name), cache_dir)
    if str(weights).startswith(HUB_PREFIX):
        return _download(name, str(weights).removeprefix(HUB_PREFIX), cache_dir)
    path = Path(weights)
    if path.is_dir():
        path = path / BACKBONE_FILE
        if not path.exists():
            raise FileNotFoundError(
                f"{weights} is a folder without {BACKBONE_FILE}: name a file of weights, or a run "
                "of sempart_jax.pretrain that has written a checkpoint"
            )
    return path


def _read_own(name: str, path: Path) -> dict[str, Any]:
    """Take the backbone out of a model file of this project."""
    held = read_description(path).backbone
    tensors = read_tensors(path, BACKBONE)
    if held != name or not tensors:
        found = f"the backbone {held!r}" if tensors else f"a head for {held!r} and no backbone"
        raise ValueError(f"{path} holds {found}, but {name!r} is wanted: name another file")
    _check_own(path, tensors, create_backbone(name), f"the backbone {name!r}")
    return unflatten(tensors, BACKBONE)


def _check_own(
    path: Path, tensors: Mapping[str, np.ndarray], module: VisionTransformer, what: str
) -> None:
    """Check tensors of a model file; a position embedding may have any square grid."""
    side = module.patch_size
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    shapes = {name: leaf.shape for name, leaf in flatten(variables["params"], BACKBONE).items()}
    position = f"{BACKBONE}position_embedding"
    found = tensors[position].shape if position in tensors else ()
    if len(found) == 3 and found[1] > 1 and math.isqrt(found[1] - 1) ** 2 == found[1] - 1:
        # It is resampled.
        shapes |= {n: (s[0], found[1], s[2]) for n, s in shapes.items() if n == position}
    check_tensors(path, tensors, shapes, what)


def _download(name: str, repository: str | None, cache_dir: str | Path | None) -> Path:
    if repository is None:
        source = "name a file of weights"
        if name.startswith("ibot"):
            source = f"get its teacher checkpoint (.pth) from {IBOT_SOURCE} and name the file"
        elif name == ANY_VIT:
            source = "name a file of weights, or hf:OWNER/NAME for one of the Hugging Face hub,"
        raise FileNotFoundError(f"backbone {name!r} has no download: {source} with {WEIGHTS_FLAG}")
    # Only here: weights that lie on the disk need no hub.
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def fetch(*, cached: bool) -> Path:
        get = functools.partial(
            huggingface_hub.hf_hub_download,
            repository,
            cache_dir=cache_dir,
            local_files_only=cached,
        )
        try:
            return Path(get(HUB_FILE))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not cached:
                raise
        # Large models lie in several files beside an index.
        index = Path(get(f"{HUB_FILE}{INDEX_SUFFIX}"))
        for shard in shard_names(index):
            get(shard)
        return index

    try:
        try:
            # The hub is not asked for what is here: without a network, that takes half a minute.
            path = fetch(cached=True)
        except LocalEntryNotFoundError:
            path = fetch(cached=False)
    # A connection that breaks off is an exception of the hub's HTTP library, another in each of its
    # versions, and not always an OSError.
    except Exception as error:
        folder = cache_dir or huggingface_hub.constants.HF_HUB_CACHE
        raise DownloadError(
            f"backbone {name!r}: {HUB_FILE} of {repository} is neither in the cache {folder} nor "
            "could it be downloaded. Fetch "
            f"https://huggingface.co/{repository}/resolve/main/{HUB_FILE} on a machine with a "
            f"network, copy it here, and name the file with {WEIGHTS_FLAG} ({error})"
        ) from error
    if "dinov3" in repository.lower():
        logging.warning(DINOV3_LICENCE)
    return path
