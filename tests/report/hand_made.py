"""A small evaluation whose scores can be worked out by hand."""

import numpy as np

from sempart_jax.evaluation.results import (
    CENTRE_BOX,
    Evaluation,
    Example,
    Examples,
    LocalizationSection,
    SaliencySection,
)
from sempart_jax.metrics.saliency import SaliencyScores
from sempart_jax.metrics.sod import ExtraScores

HOSTILE = "<b>\"a\"&'b'|\udcff.jpg"
SHOWN = "&lt;b&gt;&quot;a&quot;&amp;&#x27;b&#x27;|\\udcff.jpg"
"""The same as HTML shows it."""
CORNER = np.array([[1, 0], [0, 0]], np.float32)
ROW = np.array([[1, 1], [0, 0]], np.float32)
ALL = np.ones((2, 2), np.float32)
NONE = np.zeros((2, 2), np.float32)
OTHER = np.array([[0, 1], [0, 0]], np.float32)
GROUND_TRUTHS = (CORNER, ALL, NONE)


def scores(*predictions):
    collected = SaliencyScores()
    for prediction, ground_truth in zip(predictions, GROUND_TRUTHS, strict=True):
        collected.update(prediction, ground_truth)
    return collected


def saliency_section(dataset="ecssd", protocol="crop320", published_images=1000, extra=()):
    """``none``: accuracy .75, IoU .5, F (.565217 + .8125 + 1) / 3, MAE .25; ``guided``: all right;
    box: accuracy .5, IoU .25 / 3, F .590909 / 3, MAE .5. The third image has no IoU but the box's.
    """
    return SaliencySection(
        dataset=dataset,
        protocol=protocol,
        foreground_rule="batch" if protocol == "crop320" else "image",
        published_images=published_images,
        names=("a.jpg", HOSTILE, "c.jpg"),
        object_sizes=np.array([0.25, 1.0, 0.0]),
        inverted=np.array([True, False, False]),
        scores={
            "none": scores(ROW, ROW, NONE),
            "guided": scores(*GROUND_TRUTHS),
            CENTRE_BOX: scores(OTHER, OTHER, OTHER),
        },
        extra={
            key: ExtraScores(
                mae=0.25,
                weighted_f=0.5,
                s_measure=0.75,
                max_e_measure=0.875,
                mean_e_measure=float("nan"),
            )
            for key in extra
        },
    )


def localization_section(protocol="native", published_images=5011):
    return LocalizationSection(
        dataset="voc07",
        protocol=protocol,
        foreground_rule="image",
        published_images=published_images,
        images=5011,
        corloc={"none": 71.66},
    )


def evaluation(**changes):
    parts = {
        "title": "run <1>",
        "facts": {"run": "runs/a|b"},
        "saliency": (
            saliency_section(extra=("none",)),
            saliency_section(protocol="native", published_images=None),
        ),
        "localization": (localization_section(),),
        "seconds": {"load": 1.0, "model": 2.0, "total": 4.0},
        "left_out": (f"{HOSTILE}: not readable",),
    }
    return Evaluation(**(parts | changes))


def examples(protocol="crop320", count=1, name=HOSTILE):
    example = Example(
        name=name,
        object_size=0.25,
        pictures={
            "image": np.full((8, 6, 3), 200, np.uint8),
            "ground truth": np.zeros((8, 6), np.float32),
            "none": np.full((8, 6), 0.5, np.float32),
            "guided": np.ones((8, 6), np.float32),
        },
        iou={"none": 0.1234, "guided": float("nan")},
    )
    return Examples("ecssd", protocol, "guided", (example,) * count, (example,) * count)
