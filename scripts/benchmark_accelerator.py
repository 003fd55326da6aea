"""Measure ours on an accelerator: rates, memory, and what bfloat16 does to the losses.

    python scripts/benchmark_accelerator.py --json accelerator.json

Prints the device, the rates of large matrix products, a table of training and inference over batch
sizes and types of backbone and head, the losses in bfloat16 beside float32, the largest batch that
fits, and the aims beside what was reached. Each row appears, and is written, when it is measured.
Out of memory is a row, "does not fit"; if anything else fails, the rest goes on and the exit status
is 1. JAX, Flax, Optax and jaxtyping are enough, and Pillow for the losses.

--only=rates,table measures some sections. Of one work and type:

    python scripts/benchmark_accelerator.py --works=tricks --dtypes=bfloat16 --batch_sizes=32,64
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from benchmarking.accelerator_run import SECTIONS, AcceleratorRun, Plan
from benchmarking.accelerator_work import WORKS
from benchmarking.batch_sizes import parse_batch_sizes
from benchmarking.sempart_programs import DTYPES

_PLAN = Plan()
_ONLY = flags.DEFINE_list("only", list(SECTIONS), f"Sections: {', '.join(SECTIONS)}.")
_WORKS = flags.DEFINE_list("works", list(WORKS), f"Rows of the table: {', '.join(WORKS)}.")
_DTYPES = flags.DEFINE_list(
    "dtypes", list(DTYPES), "bfloat16 is of the backbone's products, bfloat16_head of all."
)
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", list(map(str, _PLAN.batch_sizes)), "Images a call.")
_BACKBONE = flags.DEFINE_string("backbone", _PLAN.backbone, "A vision transformer.")
_SIDE = flags.DEFINE_integer("side", _PLAN.side, "Side of the images in pixels.", lower_bound=32)
_SAMPLES = flags.DEFINE_integer("samples", _PLAN.samples, "Of each time.", lower_bound=1)
_MATRIX_SIZE = flags.DEFINE_integer(
    "matrix_size", _PLAN.matrix_size, "Rows of the large matrices.", lower_bound=1
)
_WEIGHTS = flags.DEFINE_string(
    "weights", _PLAN.weights, "File of the backbone's weights, for the losses; random by default."
)
_IMAGES = flags.DEFINE_string(
    "images", _PLAN.images, "Folder of images, for the losses; drawn scenes by default."
)
_STEPS = flags.DEFINE_integer(
    "steps", _PLAN.steps, "At whose states the losses are compared.", lower_bound=1
)
_LOSS_BATCH = flags.DEFINE_integer(
    "loss_batch", _PLAN.loss_batch, "Images a step of it.", lower_bound=1
)
_LARGEST_LIMIT = flags.DEFINE_integer(
    "largest_limit", _PLAN.largest_limit, "Larger batches are not tried.", lower_bound=1
)
_JSON = flags.DEFINE_string("json", None, "File for all numbers.")


def chosen(flag: Any, known: Sequence[str]) -> list[str]:
    """Return the items of a list flag.

    Raises:
        ValueError: if one is not known, or there is none.
    """
    if not flag.value or not set(flag.value) <= set(known):
        raise ValueError(f"--{flag.name}={','.join(flag.value)}: choose among {', '.join(known)}")
    return list(flag.value)


def planned() -> Plan:
    """Return what the flags ask for.

    Raises:
        ValueError: if they make no sense.
    """
    return Plan(
        sections=chosen(_ONLY, SECTIONS),
        backbone=_BACKBONE.value,
        side=_SIDE.value,
        works=chosen(_WORKS, list(WORKS)),
        dtypes=chosen(_DTYPES, list(DTYPES)),
        batch_sizes=parse_batch_sizes(_BATCH_SIZES.value),
        samples=_SAMPLES.value,
        matrix_size=_MATRIX_SIZE.value,
        weights=_WEIGHTS.value,
        images=_IMAGES.value,
        steps=_STEPS.value,
        loss_batch=_LOSS_BATCH.value,
        largest_limit=_LARGEST_LIMIT.value,
    )


def _main(arguments: Sequence[str]) -> None:
    if len(arguments) > 1:
        sys.exit(f"error: unexpected arguments: {' '.join(arguments[1:])}")
    try:
        run = AcceleratorRun(planned(), Path(_JSON.value) if _JSON.value else None)
        run.run()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if run.failures:
        sys.exit(f"\nerror: {len(run.failures)} failed:\n" + "\n".join(run.failures))


if __name__ == "__main__":
    # The device belongs to the processes that measure; this one counts operations.
    jax.config.update("jax_platforms", "cpu")
    app.run(_main)
