"""Run ``-m MODULE ARGUMENTS`` in which all ViTs are very small."""

import dataclasses
import runpy
import sys

from sempart_jax.networks import names


def shrink():
    """Let each ViT keep its patches alone."""
    for name, architecture in names.BACKBONES.items():
        names.BACKBONES[name] = dataclasses.replace(architecture, width=24, depth=2, num_heads=3)


if __name__ == "__main__":
    shrink()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
