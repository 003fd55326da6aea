"""Answers of an accelerator that is not there, for the processes that measure it."""

import os

MEMORY = 100
"""Images that fit."""


def describe():
    return {"platform": "toy", "kind": "Toy 100", "memory_bytes": 2**30, "driver": None}


def describe_silent():
    """Does not tell how much memory it has."""
    return {**describe(), "memory_bytes": None}


def rate(*, name, size, samples):
    if name == "float32":
        raise ValueError("no float32 today")
    return 1e12 * size


def work(*, work, backbone, side, batch, dtype, samples):
    if work == "fine":
        raise ValueError("no fine mask today")
    if work == "baseline" and batch > 8:
        os._exit(3)
    if batch > MEMORY:
        return {"fits": False}
    return {
        "fits": True,
        "seconds": [batch / 1000] * samples,
        "host_seconds": [batch / 500] * samples,
        "compile_seconds": 1.0,
        "fused_attention": dtype == "bfloat16",
        "peak_bytes": batch * 2**20,
    }


def fits(*, work, backbone, side, batch, dtype):
    return batch <= MEMORY


def losses(*, backbone, weights, images, side, batch, steps):
    return {"float32": [2.0] * steps, "bfloat16": [9.0, *[2.01] * (steps - 1)]}


def losses_lost(**options):
    return {"float32": [2.0] * 3, "bfloat16": [float("nan")] * 3}
