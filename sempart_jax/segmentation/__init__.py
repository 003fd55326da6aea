"""Masks of image collections as files: which images, in what order, and what is written of each."""
