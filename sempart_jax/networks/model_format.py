"""The project's model file: tensors by name and what they belong to, in one ``.safetensors``.

Tensors are named as Flax names them, joined by ``/``, under ``backbone/``, ``head/params/`` and
``head/batch_stats/``; a file may hold a backbone, a head, or both. This module knows the file
alone, no network, so that an exported network can be read without the code of its model.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.kernels.tensor_tree import not_finite
from sempart_jax.networks.names import FEATURES

FORMAT = "sempart_jax model"
VERSION = 1
SUFFIX = ".safetensors"
BACKBONE, HEAD = "backbone/", "head/"
PARTS = (BACKBONE, "head/params/", "head/batch_stats/")
DTYPES = ("float32", "bfloat16")
LATER_FIELDS = (
    *("network", "queries", "decoder_layers", "head_dtype", "head_channels"),
    *("features", "position_directions", "unet_channels", "backbone_fingerprint"),
    "foreground_chosen",
)
"""Fields that older files lack: they are of ``sempart`` with the paper's head in float32."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What the tensors of a file belong to.

    Attributes:
        backbone: name of the backbone, which is needed even where its tensors are elsewhere;
            ``none`` for a network without one.
        patch_size: side of the network's patches in pixels.
        origin: where the tensors come from, in a few words.
        short_side: short side in pixels at which the network was trained to see images.
        filter_radius: radius of the guided filter behind it in pixels.
        filter_eps: regularisation of the guided filter.
        compute_dtype: type of the backbone's matrix products.
        network: name of what is on the backbone, or around it, see ``models.networks``.
        queries: queries of the network ``selfmask``.
        decoder_layers: layers of its transformer decoder.
        head_dtype: type of the products in the head of the network ``sempart``.
        head_channels: features of that head's fine branch.
        features: which of the backbone's features the network looks at; empty for keys.
        position_directions: directions of position bias that are projected out of them.
        unet_channels: features of the first level of the network ``unet``.
        backbone_fingerprint: of the parameters of the backbone that the head was trained on, see
            ``tensor_tree.fingerprint_params``; empty where that is not known.
        foreground_chosen: whether training has told the network which side is foreground.

    Raises:
        ValueError: if a value is out of range.
    """

    backbone: str
    patch_size: int
    origin: str
    short_side: int = 320
    filter_radius: int = 9
    filter_eps: float = 1e-3
    compute_dtype: str = "float32"
    network: str = "sempart"
    queries: int = 20
    decoder_layers: int = 6
    head_dtype: str = "float32"
    head_channels: int = 128
    features: str = ""
    position_directions: int = 0
    unet_channels: int = 32
    backbone_fingerprint: str = ""
    foreground_chosen: bool = False

    def __post_init__(self) -> None:
        """Check the values, which may come from a damaged file."""
        for field, holds, wanted in (
            ("patch_size", 1 <= self.patch_size <= 1000, "1 to 1000"),
            ("short_side", 1 <= self.short_side <= 10_000, "1 to 10000"),
            ("filter_radius", 0 <= self.filter_radius <= 10_000, "0 to 10000"),
            ("filter_eps", 0 < self.filter_eps < math.inf, "above 0"),
            ("queries", 1 <= self.queries <= 10_000, "1 to 10000"),
            ("decoder_layers", 1 <= self.decoder_layers <= 100, "1 to 100"),
            ("features", self.features in ("", *FEATURES), " or ".join(FEATURES)),
            ("position_directions", 0 <= self.position_directions <= 10_000, "0 to 10000"),
            ("head_channels", 2 <= self.head_channels <= 10_000, "2 to 10000"),
            ("unet_channels", 1 <= self.unet_channels <= 10_000, "1 to 10000"),
            ("compute_dtype", self.compute_dtype in DTYPES, " or ".join(DTYPES)),
            ("head_dtype", self.head_dtype in DTYPES, " or ".join(DTYPES)),
        ):
            if not holds:
                raise ValueError(f"{field} must be {wanted}, got {getattr(self, field)!r}")


def write_tensors(
    path: str | os.PathLike[str],
    description: Description,
    tensors: Mapping[str, Any],
    dtype: str = "float32",
) -> None:
    """Write a model file, see ``model_file.write_model``; it is whole or as before.

    Raises:
        ValueError: if the file's name ends otherwise, the type is unknown, or tensors have names
            outside of :data:`PARTS` or are not finite.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} ends in {path.suffix!r}: a model file ends in {SUFFIX}")
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    matrix_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
    stored = {
        name: np.ascontiguousarray(tensor, matrix_dtype if tensor.ndim > 1 else np.float32)
        for name, tensor in tensors.items()
    }
    _check_names(stored, path)
    infinite = not_finite(stored)
    if infinite:
        raise ValueError(f"{path} is not written; NaN or infinity in {'; '.join(infinite)}")
    fields = {name: str(value) for name, value in dataclasses.asdict(description).items()}
    metadata = {"format": FORMAT, "format_version": str(VERSION), **fields}
    write_atomically(path, safetensors.numpy.save(stored, metadata))


def is_model_file(path: str | os.PathLike[str]) -> bool:
    """Say whether a file is in this format, of whatever version; ``False`` if it is damaged."""
    path = Path(path)
    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        return _metadata(path).get("format") == FORMAT
    except ValueError:
        return False


def read_description(path: str | os.PathLike[str]) -> Description:
    """Read what the tensors of a model file belong to."""
    path = Path(path)
    metadata = _metadata(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no model file of sempart_jax: scripts/port_weights.py makes one of "
            "PyTorch's weights"
        )
    version = metadata.get("format_version")
    if version != str(VERSION):
        raise ValueError(
            f"{path} has the format version {version}, and this program reads {VERSION}: install "
            "the sempart_jax that wrote it, or a newer one"
        )
    parse: dict[Any, Any] = {str: str, int: int, float: float, bool: _truth}
    try:
        return Description(
            **{
                field.name: parse[field.type](metadata[field.name])
                for field in dataclasses.fields(Description)
                if field.name in metadata or field.name not in LATER_FIELDS
            }
        )
    except KeyError as error:
        raise ValueError(f"{path}: its metadata lack the field {error}; get it again") from error
    except ValueError as error:
        raise ValueError(f"{path}: a field of its metadata is wrong: {error}") from error


def _truth(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"foreground_chosen must be True or False, got {text!r}")
    return text == "True"


def holds_backbone(path: str | os.PathLike[str]) -> bool:
    """Say whether a model file holds the tensors of a backbone."""
    with _opened(Path(path)) as file:
        return any(name.startswith(BACKBONE) for name in file.keys())  # noqa: SIM118


def read_tensors(path: str | os.PathLike[str], prefix: str = "") -> dict[str, np.ndarray]:
    """Read the tensors of a model file.

    Args:
        path: the file.
        prefix: what the names begin with, such as :data:`HEAD`; all by default.

    Returns:
        float32 arrays by their whole names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or a tensor has another name or type than the format allows.
    """
    path = Path(path)
    with _opened(path) as file:
        names = list(file.keys())
        _check_names(dict.fromkeys(names), path)
        tensors = {name: file.get_tensor(name) for name in names if name.startswith(prefix)}
    others = [f"{n} {t.dtype}" for n, t in tensors.items() if t.dtype.name not in DTYPES]
    if others:
        raise ValueError(f"{path}: tensors that are not {' or '.join(DTYPES)}: {'; '.join(others)}")
    return {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}


def _metadata(path: Path) -> dict[str, str]:
    with _opened(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file whose errors, while it is read, are a ``ValueError`` that names it."""
    if not path.is_file():
        raise FileNotFoundError(f"model file not found: {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except ValueError:
        raise
    # A type that NumPy does not know is an AttributeError or a TypeError.
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read; it is damaged or cut short: get it again ({error})"
        ) from error


def _check_names(tensors: Mapping[str, Any], path: Path) -> None:
    strange = [name for name in tensors if not name.startswith(PARTS)]
    if strange:
        raise ValueError(
            f"{path}: tensors whose names begin with none of {', '.join(PARTS)}: "
            f"{'; '.join(strange)}"
        )
