"""The sections of ``scripts/benchmark_accelerator.py``, each in processes of its own.

A process that runs out of memory, or ends, takes nothing with it: this one computes nothing on the
device, prints what is known, and keeps it in a file.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sempart_jax.host.atomic_write import write_atomically

from . import accelerator_table as table
from .accelerator_work import WORKS
from .largest_batch import find_largest
from .loss_precision import difference
from .matrix_rates import PRECISIONS
from .paired import Child, Side, started
from .product_count import Passes, count_passes, count_work
from .table import reason

SECTIONS = ("rates", "table", "losses", "largest")
SEARCHED = ("tricks", "refined")
"""Works whose largest batch is searched for; the others need less."""
BUILDERS = {
    "describe": "benchmarking.device:describe_device",
    "rate": "benchmarking.matrix_rates:measure_rate",
    "work": "benchmarking.accelerator_work:measure_work",
    "fits": "benchmarking.accelerator_work:fits",
    "losses": "benchmarking.loss_precision:compare_types",
}
"""``module:function`` of what is computed in the processes."""
MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        sections: some of :data:`SECTIONS`.
        backbone: name of the backbone.
        side: of the images in pixels.
        works: some of ``accelerator_work.WORKS``.
        dtypes: some of ``sempart_programs.DTYPES``.
        batch_sizes: images a call, of the table.
        samples: of each time.
        matrix_size: rows of the matrices whose products are measured.
        weights: file of the backbone's weights for the losses; random ones if empty.
        images: folder of images for the losses; scenes are drawn if empty.
        steps: at whose states the losses are compared.
        loss_batch: images a step of it.
        largest_limit: largest batch that is tried.
    """

    sections: Sequence[str] = SECTIONS
    backbone: str = "dino_vits8"
    side: int = 320
    works: Sequence[str] = tuple(WORKS)
    dtypes: Sequence[str] = ("float32", "bfloat16", "bfloat16_head")
    batch_sizes: Sequence[int] = (8, 32, 128)
    samples: int = 5
    matrix_size: int = 8192
    weights: str = ""
    images: str = ""
    steps: int = 100
    loss_batch: int = 8
    largest_limit: int = 4096


class AcceleratorRun:
    """One run: its plan, and what is known so far.

    Attributes:
        report: all numbers, as they are written.
        failures: what has failed, other than for want of the device's memory.
    """

    def __init__(self, plan: Plan, path: Path | None) -> None:
        """Start with an empty report.

        Args:
            plan: what to measure.
            path: file of the report, written whenever something is known; ``None`` for none.
        """
        self._plan, self._path = plan, path
        self.failures: list[str] = []
        self.report: dict[str, Any] = {
            "plan": dataclasses.asdict(plan),
            "rates": {},
            "rows": [],
            "largest": [],
            "failures": self.failures,
        }

    def run(self) -> None:
        """Measure all sections and print, at the end or where it is cut off, the aims.

        Raises:
            ValueError: if there is no such backbone, or its patches do not divide the side.
        """
        passes = count_passes(self._plan.backbone, self._plan.side)
        try:
            self._describe()
            self._print_counts(passes)
            for section in SECTIONS:
                if section in self._plan.sections:
                    self._section(section, passes)
        finally:
            self._print_aims()

    def _section(self, name: str, passes: Passes) -> None:
        if name == "rates":
            self._rates()
        elif name == "table":
            self._table(passes)
        elif name == "losses":
            self._losses()
        else:
            self._largest()

    def _describe(self) -> None:
        with self._child() as child:
            self.report["device"] = child.call(_side("describe"))
        self._save()
        for name, value in self.report["device"].items():
            shown = value
            if isinstance(value, dict):
                shown = ", ".join(f"{package} {version}" for package, version in value.items())
            print(f"{name}: {'not told' if shown is None else shown}", flush=True)

    def _print_counts(self, passes: Passes) -> None:
        self.report["flops"] = {
            "backbone": passes.backbone,
            "head": passes.head,
            **{work: count_work(work, passes) for work in WORKS},
        }
        listed = ", ".join(f"{n} {c / 1e9:.3g}" for n, c in self.report["flops"].items())
        print(f"GFLOP an image, counted: {listed}", flush=True)

    def _rates(self) -> None:
        print(f"\nproducts of {self._plan.matrix_size:,} x {self._plan.matrix_size:,} matrices:")
        with self._child() as child:
            for name in PRECISIONS:
                self._rate(child, name)

    def _rate(self, child: Child, name: str) -> None:
        options = {"name": name, "size": self._plan.matrix_size, "samples": self._plan.samples}
        try:
            rate = child.call(_side("rate", options))
        except RuntimeError as error:
            self._fail(f"products in {name}", error)
            return
        self.report["rates"][name] = rate
        self._save()
        print(f"{name}: {rate / 1e12:.4g} TFLOP/s", flush=True)

    def _table(self, passes: Passes) -> None:
        print(f"\n{self._plan.backbone}, {self._plan.side} px\n{table.head()}", flush=True)
        for work in self._plan.works:
            for dtype in self._plan.dtypes:
                with self._child() as child:
                    for batch in sorted(self._plan.batch_sizes):
                        record = self._row(child, work, dtype, batch, passes)
                        self.report["rows"].append(record)
                        self._save()
                        print(table.row(record), flush=True)
                        # Nor would a larger one.
                        if not record.get("fits"):
                            break

    def _row(
        self, child: Child, work: str, dtype: str, batch: int, passes: Passes
    ) -> dict[str, Any]:
        options = {**self._at(work, dtype, batch), "samples": self._plan.samples}
        try:
            found = child.call(_side("work", options))
        except RuntimeError as error:
            self.failures.append(f"{WORKS[work]}, {dtype}, batch {batch}: {error}")
            return {"work": work, "dtype": dtype, "batch": batch, "error": str(error)}
        return table.work_record(
            found,
            work=work,
            dtype=dtype,
            batch=batch,
            flops=count_work(work, passes),
            rate=self.report["rates"].get("bfloat16"),
        )

    def _losses(self) -> None:
        plan = self._plan
        images = plan.images or "drawn scenes"
        weights = plan.weights or "random weights"
        print(f"\nlosses of all types: {images}, {weights}, batch {plan.loss_batch}", flush=True)
        options = {
            "backbone": plan.backbone,
            "weights": plan.weights,
            "images": plan.images,
            "side": plan.side,
            "batch": plan.loss_batch,
            "steps": plan.steps,
        }
        try:
            with self._child() as child:
                found = child.call(_side("losses", options))
        except RuntimeError as error:
            self._fail("losses", error)
            return
        apart = difference(found)
        self.report["losses"] = {
            # JSON has no NaN.
            "difference": apart if math.isfinite(apart) else None,
            "by_dtype": {
                dtype: {
                    name: [value if math.isfinite(value) else None for value in values]
                    for name, values in of_type.items()
                }
                for dtype, of_type in found.items()
            },
        }
        self._save()
        print(table.describe_losses(found, apart), flush=True)

    def _largest(self) -> None:
        print("\nlargest batch", flush=True)
        if self.report["device"]["memory_bytes"] is None:
            print("not searched for: the device does not tell how much memory it has", flush=True)
            return
        for work in SEARCHED:
            for dtype in self._plan.dtypes if work in self._plan.works else ():
                self._search(work, dtype)

    def _search(self, work: str, dtype: str) -> None:
        name = f"{WORKS[work]}, {dtype}"
        found: dict[str, Any] = {"work": work, "dtype": dtype, "fits": 0, "does_not_fit": None}
        self.report["largest"].append(found)
        known = [
            row["batch"]
            for row in self.report["rows"]
            if row.get("fits") and (row["work"], row["dtype"]) == (work, dtype)
        ]
        start = min(max(known, default=1), self._plan.largest_limit)

        def fits(batch: int) -> bool:
            # A process that has run out of memory has it in pieces from there on.
            with self._child() as child:
                answer: bool = child.call(_side("fits", self._at(work, dtype, batch)))
            found["fits" if answer else "does_not_fit"] = batch
            self._save()
            print(f"  {batch:,} {'fits' if answer else 'does not fit'}", flush=True)
            return answer

        try:
            largest, smallest = find_largest(fits, start, self._plan.largest_limit)
        except RuntimeError as error:
            self._fail(f"largest batch, {name}", error)
            return
        beyond = "more were not tried" if smallest is None else f"{smallest:,} does not"
        print(f"{name}: {largest:,} fits, {beyond}", flush=True)

    def _print_aims(self) -> None:
        losses = self.report.get("losses")
        apart = None
        if losses is not None:
            apart = float("nan") if losses["difference"] is None else losses["difference"]
        kind = self.report.get("device", {}).get("kind", "a device unknown")
        print(
            "\naims, set for ViT-S/8 at 320 px on one GPU of NVIDIA's H200 class; "
            f"reached with {self._plan.backbone} at {self._plan.side} px on {kind}:"
        )
        print(*table.aims(self.report["rows"], apart), sep="\n", flush=True)

    def _at(self, work: str, dtype: str, batch: int) -> dict[str, Any]:
        size = {"backbone": self._plan.backbone, "side": self._plan.side, "batch": batch}
        return {"work": work, "dtype": dtype, **size}

    def _child(self) -> Any:
        # Nobody else is to be on the card; JAX by itself would take three quarters of it.
        share = os.environ.get(MEMORY_FRACTION, "0.95")
        return started(Side("ours", "", environment={MEMORY_FRACTION: share}))

    def _fail(self, what: str, error: RuntimeError) -> None:
        self.failures.append(f"{what}: {error}")
        self._save()
        print(f"{what}: failed: {reason(str(error))}", flush=True)

    def _save(self) -> None:
        if self._path is not None:
            text = json.dumps(self.report, indent=1, allow_nan=False)
            write_atomically(self._path, text + "\n")


def _side(name: str, options: Mapping[str, Any] | None = None) -> Side:
    return Side("ours", BUILDERS[name], options or {})
