"""Time ours beside PyTorch and OpenCV on the same work, and our kernels beside the obvious ones.

    pip install -e '.[bench]'           # or '.[bench,cuda12]' on an NVIDIA GPU
    python scripts/benchmark.py --images data/DUTS/DUTS-TR/DUTS-TR-Image --json benchmark.json

Of each comparison both sides run in turns, ours, theirs, ours, theirs, ..., each in a process of
its own that sleeps while the other one runs. Shown are medians with quartiles, and the median of
the ratios of neighbours: on a machine with other load, trust these. PyTorch's side is checked first
to give the same losses, gradients and masks as ours. It is written for speed; "plain PyTorch" is
the same with attention as two products and a softmax, and with channels first.

A pair that fails, as where memory is full or the results disagree, is a row that says so; the rest
goes on, and the exit status is 1.

--only=training,kernels measures some groups; kernels needs neither PyTorch nor OpenCV.
--device_table measures training and inference at several batch sizes, with the backbone in float32
and in bfloat16, instead. What ours alone reaches on a GPU is for benchmark_accelerator.py.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from benchmarking.batch_sizes import parse_batch_sizes
from benchmarking.compared_devices import find_devices
from benchmarking.machine import describe_machine, load_average, require_packages
from benchmarking.paired import Comparison, Failure, Pair, Side, measure, started
from benchmarking.table import format_ratio, reason, record, table
from benchmarking.workloads import GROUPS, Size, all_pairs, device_pairs, needed_packages

from sempart_jax.host import command_line
from sempart_jax.host.atomic_write import write_atomically

_ONLY = flags.DEFINE_list(
    "only", None, f"Groups to measure: {', '.join(GROUPS)}. All, input only with --images."
)
_DEVICE_TABLE = flags.DEFINE_bool("device_table", False, "Sweep batch sizes and types instead.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["2", "8", "32"], "Those of --device_table.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of images for the group input.")
_JSON = flags.DEFINE_string("json", None, "File for all raw numbers and the machine.")
_SAMPLES = flags.DEFINE_integer("samples", 7, "Samples of each side.", lower_bound=1)
_STARTS = flags.DEFINE_integer("starts", 3, "Samples of the group first_step.", lower_bound=1)
_BACKBONE = flags.DEFINE_string("backbone", "dino_vits8", "Backbone with patches of 8 pixels.")
_SIDE = flags.DEFINE_integer("side", 320, "Side of the networks' images in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "Images a step.", lower_bound=1)


def chosen_groups() -> Sequence[str]:
    """Return the groups of ``--only``, in their own order.

    Raises:
        ValueError: if one is not known.
    """
    if _ONLY.value is None:
        return [group for group in GROUPS if group != "input" or _IMAGES.value]
    unknown = [name for name in _ONLY.value if name not in GROUPS]
    if unknown or not _ONLY.value:
        raise ValueError(f"--only={','.join(_ONLY.value)}: choose among {', '.join(GROUPS)}")
    return [group for group in GROUPS if group in _ONLY.value]


def planned_pairs(cache: str) -> list[Pair]:
    """Return what the flags ask for."""
    size = Size(_BACKBONE.value, _SIDE.value, _BATCH_SIZE.value)
    if _DEVICE_TABLE.value:
        return device_pairs(size, parse_batch_sizes(_BATCH_SIZES.value))
    cores = len(os.sched_getaffinity(0))
    return all_pairs(chosen_groups(), size, images=_IMAGES.value, cores=cores, cache=cache)


def agreement() -> dict[str, float]:
    """Check PyTorch's side against ours, on the CPU, where both compute in full float32."""
    side = Side(
        "check", "benchmarking.agreement:check_agreement", environment={"JAX_PLATFORMS": "cpu"}
    )
    with started(side) as child:
        largest: dict[str, float] = child.call(side)
    return largest


def outcome_of(pair: Pair) -> Comparison | Failure:
    """Measure a pair, or say why that failed."""
    try:
        return measure(pair, _STARTS.value if pair.fresh else _SAMPLES.value)
    except RuntimeError as error:
        return Failure(pair, str(error))


def measure_all(pairs: Sequence[Pair], report: dict[str, Any]) -> list[Failure]:
    """Measure the pairs, print their table, as far as it goes, and return those that failed."""
    outcomes: list[Comparison | Failure] = []
    try:
        for index, pair in enumerate(pairs):
            print(f"[{index + 1}/{len(pairs)}] {pair.name}: ", end="", flush=True)
            outcome = outcome_of(pair)
            outcomes.append(outcome)
            failed = isinstance(outcome, Failure)
            print(reason(outcome.error) if failed else format_ratio(outcome.ratio()), flush=True)
            # Whatever comes later may fail.
            if _JSON.value:
                report["load_after"] = load_average()
                records = [record(outcome) for outcome in outcomes]
                text = json.dumps({**report, "comparisons": records}, indent=1, allow_nan=False)
                write_atomically(Path(_JSON.value), text + "\n")
    finally:
        print(f"\n{table(outcomes)}", flush=True)
    return [outcome for outcome in outcomes if isinstance(outcome, Failure)]


def _main() -> None:
    report: dict[str, Any] = {"machine": describe_machine(), "load_before": load_average()}
    with tempfile.TemporaryDirectory(prefix="sempart_jax_benchmark_") as cache:
        pairs = planned_pairs(cache)
        needed = needed_packages(pairs)
        require_packages(needed)
        devices = find_devices(pairs)
        report["devices"] = {name: device._asdict() for name, device in devices.items()}
        machine = {**report["machine"], "devices": report["devices"]}
        print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n")
        if "torch" in needed:
            report["agreement"] = agreement()
            found = ", ".join(f"{name} {value:.0e}" for name, value in report["agreement"].items())
            print(f"largest differences of ours and the PyTorch twin: {found}")
        failures = measure_all(pairs, report)
    if failures:
        details = "\n\n".join(f"{failure.pair.name}: {failure.error}" for failure in failures)
        sys.exit(f"{details}\n\nerror: {len(failures)} of {len(pairs)} comparisons failed")


if __name__ == "__main__":
    command_line.run(_main)
