"""Unsupervised foreground segmentation in JAX: Sempart with two tricks (arXiv 2404.03392)."""

from importlib.metadata import version

__version__ = version("sempart_jax")
