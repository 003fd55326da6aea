"""The paper: Sempart with guided filtering and multi-scale consistency (arXiv 2404.03392)."""
