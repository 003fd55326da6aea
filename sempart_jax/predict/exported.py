"""Use an exported network without the code of its model.

    from sempart_jax import load_exported
    segmenter = load_exported("exported")
    mask = segmenter(PIL.Image.open("photo.jpg"))

A folder that ``sempart_jax.predict.export`` has written holds ``model.json``, the weights once
(``weights.safetensors``, a model file like any other), and one StableHLO program for each shape at
which the network sees an image. Programs are of any batch size. They take the weights as an input,
so that seven of them share one file, and run on CPU and CUDA alike.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jaxtyping import UInt8

from sempart_jax.networks.model_format import read_tensors
from sempart_jax.predict.options import check_options
from sempart_jax.predict.predictor import Fetch, Predictor, input_shapes, pad_batch
from sempart_jax.predict.segmenter import Segmenter

FORMAT = "sempart_jax exported network"
VERSION = 1
DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
FIELDS: Mapping[str, type] = {
    "patch_size": int,
    "short_side": int,
    "refine": str,
    "invert": str,
    "jax": str,
    "sha256": dict,
}
"""What the description tells beside format and version, as far as it is needed here."""


class ExportedSegmenter(Segmenter):
    """Gives soft foreground masks of images of any size, as the ``Segmenter`` that was exported.

    Attributes:
        description: what ``model.json`` tells: backbone, patch size, short side, origin and more.
    """

    def __init__(
        self, predictor: Predictor, description: dict[str, Any], *, refine: str, invert: str
    ) -> None:
        """Choose what is done to the masks; see :func:`load_exported`."""
        digests = json.dumps(description["sha256"], sort_keys=True).encode()
        origin = {"network": hashlib.sha256(digests).hexdigest()}
        super().__init__(predictor, refine=refine, invert=invert, origin=lambda: origin)
        self.description = description


def load_exported(
    path: str | os.PathLike[str],
    *,
    refine: str | None = None,
    invert: str | None = None,
    batch_size: int = 8,
) -> ExportedSegmenter:
    """Load an exported network.

    Args:
        path: folder that ``Segmenter.export`` has written.
        refine: what sharpens the masks at the size of their images: ``none``, ``guided``,
            ``bilateral`` or ``bilateral_16_16_8``; as it was exported by default.
        invert: see ``sempart_jax.predict.pictures.choose_side``; as it was exported by default.
        batch_size: images that are processed together at most.

    Returns:
        The segmenter.

    Raises:
        FileNotFoundError: if there is no exported network, or a file of it is missing.
        ModuleNotFoundError: if ``flatbuffers``, which reads the programs, is not installed.
        ValueError: if it is damaged or of another version, this JAX cannot run it, or an option is
            unknown.
    """
    path = Path(path)
    description = _read_description(path)
    refine = description["refine"] if refine is None else refine
    invert = description["invert"] if invert is None else invert
    check_options(refine, invert, batch_size=batch_size)
    require_flatbuffers()
    digests = description["sha256"]
    _read_checked(path, WEIGHTS_FILE, digests)
    programs = {}
    for height, width in input_shapes(description["short_side"], description["patch_size"]):
        name = program_file(height, width)
        content = _read_checked(path, name, digests)
        programs[height, width] = _program(path / name, content, description["jax"])
    predictor = exported_predictor(
        programs,
        read_tensors(path / WEIGHTS_FILE),
        short_side=description["short_side"],
        patch_size=description["patch_size"],
        batch_size=batch_size,
    )
    return ExportedSegmenter(predictor, description, refine=refine, invert=invert)


def exported_predictor(
    programs: Mapping[tuple[int, int], Callable[..., Any]],
    weights: dict[str, np.ndarray],
    *,
    short_side: int,
    patch_size: int,
    batch_size: int,
) -> Predictor:
    """Put the weights on the default device; each program compiles at first use.

    Programs are from weights and images to masks, by height and width of the images.
    """
    weights = jax.device_put(weights)

    def start(inputs: UInt8[np.ndarray, "B h w 3"]) -> Fetch:
        # Sizes of batches that are powers of two bound how often a shape compiles.
        count = len(inputs)
        size = min(1 << (count - 1).bit_length(), batch_size)
        masks = programs[inputs.shape[1:3]](weights, pad_batch(inputs, size))
        return lambda: np.asarray(masks)[:count]

    return Predictor(start, short_side=short_side, patch_size=patch_size, batch_size=batch_size)


def program_file(height: int, width: int) -> str:
    """Return the name of the file with the program for a shape."""
    return f"{height}x{width}.stablehlo"


def require_flatbuffers() -> None:
    """Raise ``ModuleNotFoundError`` with its remedy if programs cannot be stored on a disk."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise ModuleNotFoundError(
            "exported networks need the package flatbuffers: pip install flatbuffers"
        )


def _read_description(path: Path) -> dict[str, Any]:
    file = path / DESCRIPTION_FILE
    if not file.is_file():
        raise FileNotFoundError(f"no exported network in {path}: {file} does not exist")
    try:
        description = json.loads(file.read_bytes())
        found, version = description["format"], description["format_version"]
    # JSON that is nested without end is a RecursionError.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged, or is of something else: {error!r}") from error
    if found != FORMAT:
        raise ValueError(f"{file} is of another format, {found!r}")
    if version != VERSION:
        raise ValueError(
            f"{path} has the format version {version}, and this program reads {VERSION}: export "
            "the network anew, or install the sempart_jax that wrote it"
        )
    for field, kind in FIELDS.items():
        # A bool is an int to Python.
        if type(description.get(field)) is not kind:
            raise ValueError(
                f"{file} is damaged, {field} is missing or no {kind.__name__}: export anew"
            )
    return dict(description)


def _read_checked(path: Path, name: str, digests: Mapping[str, str]) -> bytes:
    file = path / name
    if name not in digests:
        raise ValueError(f"{path} was exported without {name}, which is needed here: export anew")
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing from the exported network: export anew")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digests[name]:
        raise ValueError(f"{file} is damaged, or was replaced: export the network anew")
    return content


def _program(file: Path, content: bytes, written_by: str) -> Callable[..., Any]:
    try:
        return jax.jit(export.deserialize(bytearray(content)).call)
    # The format of programs is JAX's own, and so are its many complaints.
    except Exception as error:
        raise ValueError(
            f"{file} was written by JAX {written_by} and cannot be read by JAX {jax.__version__}: "
            f"export the network anew ({type(error).__name__}: {error})"
        ) from error
