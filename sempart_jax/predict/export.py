"""Write a network as programs that run without the code of its model.

One StableHLO program for each of the shapes at which the network sees images, of any batch size,
for CPU and CUDA. A single program for all sizes would be another network in places: DINO leaves
its position embedding alone on the grid that it was trained on and resamples it, with an offset,
on all others, which is decided while tracing; and the handcrafted backbone's border needs the size.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, export
from jaxtyping import Float, UInt8

from sempart_jax.host.errors import writing
from sempart_jax.kernels.normalization import from_bytes
from sempart_jax.kernels.tensor_tree import flatten, unflatten
from sempart_jax.networks.model_file import write_model
from sempart_jax.networks.model_format import BACKBONE, HEAD
from sempart_jax.predict.exported import (
    DESCRIPTION_FILE,
    FORMAT,
    VERSION,
    WEIGHTS_FILE,
    program_file,
    require_flatbuffers,
)
from sempart_jax.predict.predictor import input_shapes
from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.two_tricks.interfaces import MaskNetwork

PLATFORMS = ("cpu", "cuda")


def export_segmenter(
    segmenter: Segmenter, path: str | os.PathLike[str], dtype: str = "float32"
) -> None:
    """Write the folder that ``sempart_jax.load_exported`` reads, see ``Segmenter.export``."""
    network, short_side = segmenter.network, segmenter.predictor.short_side
    require_flatbuffers()
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise ValueError(f"{path} exists: remove it, or export to another folder")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write_model(temporary / WEIGHTS_FILE, network, dtype=dtype)
        tensors = flatten(network.variables, HEAD) | flatten(network.frozen_params, BACKBONE)
        weights = {name: jax.ShapeDtypeStruct(x.shape, jnp.float32) for name, x in tensors.items()}
        for height, width in input_shapes(short_side, network.patch_size):
            program = export_program(network.modules, weights, height, width)
            (temporary / program_file(height, width)).write_bytes(program.serialize())
        description = {
            "format": FORMAT,
            "format_version": VERSION,
            "backbone": network.backbone,
            "patch_size": network.patch_size,
            "short_side": short_side,
            "origin": network.origin,
            "refine": segmenter.refine,
            "invert": segmenter.invert,
            "jax": jax.__version__,
            "platforms": PLATFORMS,
            "sha256": {
                file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                for file in sorted(temporary.iterdir())
            },
        }
        (temporary / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export_program(
    network: MaskNetwork, weights: dict[str, jax.ShapeDtypeStruct], height: int, width: int
) -> export.Exported:
    """Trace a network for images of one size, multiples of the patch, in any number.

    ``weights`` are the shapes of all its tensors by their names in a model file. The program is
    ``(weights, uint8 [B, height, width, 3]) -> [B, height, width]``, the fine mask in [0, 1].
    """

    def predict(weights: dict[str, Any], image: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W"]:
        frozen_params, variables = unflatten(weights, BACKBONE), unflatten(weights, HEAD)
        return network.predict(frozen_params, variables, from_bytes(image)).fine[..., 0]

    (batch,) = export.symbolic_shape("batch", constraints=["batch >= 1"])
    image = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.uint8)
    return export.export(jax.jit(predict), platforms=PLATFORMS)(weights, image)
