r"""Segment any images: files, folders with all that is below them, or patterns.

    python -m sempart_jax.segment photos 'more/**/*.jpg' one.png --workdir runs/tricks --out masks

Without `--workdir`, the built-in model segments, where this installation has one.

Writes for each image, at its own size: a mask of 0 and 255, or soft (OUT/masks/NAME.png), the image
tinted and outlined (OUT/overlays/NAME.jpg), an RGBA cut-out (OUT/cutouts/NAME.png), and a line in
OUT/masks.jsonl: box, area, confidence, seconds. Started again, the same command does only what is
new, changed, or failed. Images that cannot be read are listed at the end; then exit status is 1.

With `--method tokencut` in place of `--workdir`, a method that needs no training segments, over
`--backbone`; see `sempart_jax.baselines.methods`.

Large collections: `--shard 0/4` to `--shard 3/4` in four processes do a quarter each, with records
of their own (OUT/masks.0-of-4.jsonl). Processes of one jax.distributed cluster share by themselves.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from PIL import Image

from sempart_jax import command_line
from sempart_jax.baselines.methods import METHODS
from sempart_jax.builtin_model import builtin_model_path
from sempart_jax.data.segment_products import FOLDERS
from sempart_jax.data.shown_names import printable
from sempart_jax.image_segmenter import load_segmenter
from sempart_jax.method_predictor import SHORT_SIDE
from sempart_jax.method_segmenter import load_method_segmenter
from sempart_jax.picture_segmenter import PictureSegmenter
from sempart_jax.pictures import INVERSIONS
from sempart_jax.postprocessing import POSTPROCESSINGS
from sempart_jax.segmentation.collection import MASKS, Summary, check_settings, segment
from sempart_jax.segmentation.inputs import find_inputs
from sempart_jax.segmentation.shards import parse_shard

_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "What segments: a run's directory, or what else load_segmenter takes; by default the built-in "
    "model.",
)
_METHOD = flags.DEFINE_enum(
    "method", None, list(METHODS), "What segments instead, without training, over --backbone."
)
_DECODER = flags.DEFINE_string("decoder", None, "File of FOUND's decoder, for its methods.")
_OUT = flags.DEFINE_string("out", None, "Output folder; has to be named.")
_OUTPUTS = flags.DEFINE_list("outputs", list(FOLDERS), f"Among {', '.join(FOLDERS)}.")
_MASK = flags.DEFINE_enum("mask", "binary", MASKS, "Values of the masks: 0 and 255, or all.")
_THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Foreground is above it.")
_LARGEST = flags.DEFINE_bool("largest_component", False, "Keep only the largest component.")
_REFINE = flags.DEFINE_enum("refine", "guided", list(POSTPROCESSINGS), "What sharpens the masks.")
_INVERT = flags.DEFINE_enum(
    "invert",
    None,
    INVERSIONS,
    "Which masks are inverted; auto, the default without --method: those of more than half; never, "
    "the default of --method, which chooses its foreground itself.",
)
_RESOLUTION = flags.DEFINE_integer(
    "resolution",
    None,
    "Short side in pixels at which the network sees an image; by default that of its training, and "
    f"{SHORT_SIDE} with --method.",
    lower_bound=1,
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images predicted together.", lower_bound=1)
_BACKBONE = flags.DEFINE_string(
    "backbone",
    None,
    "Backbone of --method, dino_vits8 by default; or the one that a released head was trained on.",
)
_WEIGHTS = flags.DEFINE_string("weights", None, "File of the backbone's weights, if it has moved.")
_SHARD = flags.DEFINE_string("shard", None, "i/n: do the i-th, from 0, of n parts.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Do all again, with other settings too.")


def _main(arguments: Sequence[str]) -> None:
    if not arguments:
        raise ValueError("name images, folders or patterns to segment")
    out = _OUT.value
    if out is None:
        raise ValueError("name a folder for what is written: --out masks")
    load = _loader()
    # Files that are too large are listed with all that cannot be read.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    shard = None if _SHARD.value is None else parse_shard(_SHARD.value)
    check_settings(_OUTPUTS.value, _MASK.value, _THRESHOLD.value)
    # What is mistyped shows before a network is loaded.
    find_inputs(arguments)
    summary = Summary()
    try:
        segment(
            arguments,
            Path(out),
            load(),
            outputs=_OUTPUTS.value,
            mask=_MASK.value,
            threshold=_THRESHOLD.value,
            largest_component=_LARGEST.value,
            shard=shard,
            overwrite=_OVERWRITE.value,
            summary=summary,
        )
    except KeyboardInterrupt:
        _tell(summary)
        raise
    except OSError as error:
        _tell(summary)
        sys.exit(f"error: {error}")
    _tell(summary)
    if summary.failed:
        sys.exit(1)


def _loader() -> Callable[[], PictureSegmenter]:
    """Choose how to load what segments; what no flag says is as that has it."""
    options: dict[str, Any] = {
        "backbone": _BACKBONE.value,
        "weights": _WEIGHTS.value,
        "decoder": _DECODER.value,
        "resolution": _RESOLUTION.value,
        "refine": _REFINE.value,
        "invert": _INVERT.value,
        "batch_size": _BATCH_SIZE.value,
    }
    given = {name: value for name, value in options.items() if value is not None}
    workdir, method = _WORKDIR.value, _METHOD.value
    if workdir is not None and method is not None:
        raise ValueError("give one of --workdir, --method: what is to segment")
    if method is not None:
        return functools.partial(load_method_segmenter, method, **given)
    if _DECODER.value is not None:
        raise ValueError("--decoder is FOUND's: give --method=found_multi or found_single with it")
    source = builtin_model_path() if workdir is None else workdir
    return functools.partial(load_segmenter, source, **given)


def _tell(summary: Summary) -> None:
    for path, reason in sorted(summary.failed.items()):
        print(f"failed: {printable(path)}: {reason}", file=sys.stderr)
    print(summary)


if __name__ == "__main__":
    command_line.run(_main, positional=True, resumable=True)
