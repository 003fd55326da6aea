"""Files of a report: ``results.json``, ``tables.md``, ``per_image.csv`` and ``report.html``."""

import csv
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sempart_jax import __version__
from sempart_jax.evaluation.results import Evaluation, Examples, SaliencySection
from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.metrics.saliency import F_THRESHOLDS
from sempart_jax.report.curves import SIZE_BINS, size_bins
from sempart_jax.report.page import html_page
from sempart_jax.report.tables import Section, printable
from sempart_jax.report.text import markdown_document

SCHEMA = 1
"""Counted up when a field of ``results.json`` changes its meaning or goes away."""


def write_report(evaluation: Evaluation, examples: Sequence[Examples], folder: Path) -> None:
    """Write all that an evaluation has found, as files for people and for programs.

    ``results.json`` is :func:`results_to_dict`; ``tables.md`` holds the tables beside the
    published numbers; ``per_image.csv`` a line an image; ``report.html`` all of it, with curves
    and examples, in one page that needs no other file. A file is replaced whole or not at all.
    """
    results = results_to_dict(evaluation)
    write_atomically(folder / "results.json", _to_json(results))
    write_atomically(folder / "tables.md", markdown_document(evaluation))
    write_atomically(folder / "per_image.csv", printable(per_image_csv(evaluation.saliency)))
    write_atomically(folder / "report.html", html_page(evaluation, examples, results["versions"]))


def results_to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """List every number of an evaluation in rows that say themselves what they are.

    Returns:
        What JSON can hold, None in place of NaN:

        - ``schema``: :data:`SCHEMA`; ``title``; ``facts``: label to value; ``left_out``: lines;
          ``seconds``: stage to seconds; ``versions``: of python, jax, numpy and sempart_jax.
        - ``saliency``: a row for each section and post-processing, the centre box included, with
          ``dataset``, ``protocol``, ``foreground_rule``, ``postprocessing``, ``images``,
          ``published_images`` (None if unknown), ``inverted_images``, ``accuracy``, ``iou``,
          ``max_f_beta``, ``mae`` in [0, 1], and each further score as ``extra_NAME``.
        - ``localization``: rows with the first six fields and ``corloc`` in percent.
        - ``thresholds``: the 255 thresholds of the curves. ``curves``: rows with the first four
          fields and ``precision``, ``recall``, ``f_beta`` at each threshold.
        - ``size_bin_edges``: 21 borders of object size. ``size_bins``: rows with the first four
          fields, ``images`` in each bin and their mean ``iou``, None in an empty bin.
    """

    def labels(section: Section, key: str) -> dict[str, Any]:
        names = ("dataset", "protocol", "foreground_rule")
        return {name: getattr(section, name) for name in names} | {"postprocessing": key}

    saliency, curves, bins_of_size = [], [], []
    for section in evaluation.saliency:
        for key, scores in section.scores.items():
            result, bins = scores.compute(), size_bins(section.object_sizes, scores.iou_per_image)
            metrics = {
                name: getattr(result, name) for name in ("accuracy", "iou", "max_f_beta", "mae")
            }
            if key in section.extra:
                metrics |= {f"extra_{n}": v for n, v in vars(section.extra[key]).items()}
            numbers = {
                "images": result.images,
                "published_images": section.published_images,
                "inverted_images": int(np.count_nonzero(section.inverted)),
            }
            curve = {
                "precision": _numbers(result.precision),
                "recall": _numbers(result.recall),
                "f_beta": _numbers(result.f_curve),
            }
            bin_numbers = {"images": bins.images.tolist(), "iou": _numbers(bins.iou)}
            saliency.append(labels(section, key) | numbers | _no_nan(metrics))
            curves.append(labels(section, key) | curve)
            bins_of_size.append(labels(section, key) | bin_numbers)
    localization = [
        labels(boxes, key)
        | {"images": boxes.images, "published_images": boxes.published_images}
        | _no_nan({"corloc": corloc})
        for boxes in evaluation.localization
        for key, corloc in boxes.corloc.items()
    ]
    packages = {name: version(name) for name in ("jax", "numpy")}
    return {
        "schema": SCHEMA,
        "title": evaluation.title,
        "facts": dict(evaluation.facts),
        "versions": {"python": platform.python_version(), **packages, "sempart_jax": __version__},
        "seconds": _no_nan(evaluation.seconds),
        "left_out": list(evaluation.left_out),
        "saliency": saliency,
        "localization": localization,
        "thresholds": _numbers(F_THRESHOLDS),
        "curves": curves,
        "size_bin_edges": _numbers(np.arange(SIZE_BINS + 1) / SIZE_BINS),
        "size_bins": bins_of_size,
    }


def per_image_csv(sections: Sequence[SaliencySection]) -> str:
    """Write a line an image: labels, object size, accuracy and IoU of each post-processing.

    A cell is empty where its section has no such post-processing or the IoU is not defined.
    """
    keys = list(dict.fromkeys(key for section in sections for key in section.scores))
    columns = [
        f"{metric}_{key.replace(' ', '_')}" for key in keys for metric in ("accuracy", "iou")
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dataset", "protocol", "image", "object_size", "inverted", *columns])
    for section in sections:
        nothing = np.full(len(section.names), np.nan)
        numbers: list[np.ndarray] = []
        for key in keys:
            scores = section.scores.get(key)
            numbers += (
                [scores.accuracy_per_image, scores.iou_per_image] if scores else [nothing] * 2
            )
        for index, name in enumerate(section.names):
            size, *cells = (_cell(column[index]) for column in (section.object_sizes, *numbers))
            inverted = int(section.inverted[index])
            writer.writerow([section.dataset, section.protocol, name, size, inverted, *cells])
    return text.getvalue()


def _no_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else float(value) for key, value in values.items()}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _to_json(results: Mapping[str, Any]) -> str:
    """Put each row of a list of rows on a line of its own, so that two files can be compared."""
    parts = []
    for key, value in results.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in value)
            text = f"[\n{rows}\n ]"
        else:
            text = json.dumps(value, allow_nan=False)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
