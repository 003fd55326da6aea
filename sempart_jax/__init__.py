"""Unsupervised foreground segmentation in JAX: Sempart with two tricks (arXiv 2404.03392)."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sempart_jax.baselines.bilateral import bilateral_solver
    from sempart_jax.predict.exported import ExportedSegmenter, load_exported
    from sempart_jax.predict.load import load_method_segmenter, load_segmenter
    from sempart_jax.predict.segmenter import Segmenter
    from sempart_jax.two_tricks.filters import guided_filter

try:
    __version__ = version("sempart_jax")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
__all__ = [
    "ExportedSegmenter",
    "Segmenter",
    "__version__",
    "bilateral_solver",
    "guided_filter",
    "load_exported",
    "load_method_segmenter",
    "load_segmenter",
]

_HOMES = {
    "bilateral_solver": "baselines.bilateral",
    "guided_filter": "two_tricks.filters",
    "ExportedSegmenter": "predict.exported",
    "Segmenter": "predict.segmenter",
    "load_exported": "predict.exported",
    "load_method_segmenter": "predict.load",
    "load_segmenter": "predict.load",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: training needs not what segmenting needs."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names before their first use, too."""
    return sorted({*globals(), *__all__})
