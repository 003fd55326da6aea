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
    return {
        "float32": {"losses": [2.0] * steps, "gradients": [0.0] * steps},
        "bfloat16": {
            "losses": [2.01, *[2.0] * (steps - 1)],
            "gradients": [*[0.01] * (steps - 1), 0.03],
        },
    }


def losses_lost(**options):
    whole = {"losses": [2.0] * 3, "gradients": [0.0] * 3}
    return {"float32": whole, "bfloat16": dict.fromkeys(whole, [float("nan")] * 3)}
