"""Backbones by name, their weights, and files of trained networks."""
