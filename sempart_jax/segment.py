r"""Segment any images: files, folders with all that is below them, or patterns.

    python -m sempart_jax.segment photos 'more/**/*.jpg' one.png --workdir runs/tricks --out masks

Without `--workdir`, the built-in model segments, where this installation has one.

Writes for each image, at its own size: a mask of 0 and 255, or soft (OUT/masks/NAME.png), the image
tinted and outlined (OUT/overlays/NAME.jpg), an RGBA cut-out (OUT/cutouts/NAME.png), and a line in
OUT/masks.jsonl: box, area, confidence, seconds. Started again, the same command does only what is
new, changed, or failed. Images that cannot be read are listed at the end; then exit status is 1.

With `--method tokencut` in place of `--workdir`, a method that needs no training segments, over
`--backbone`; see `sempart_jax.baselines.by_name`.

Large collections: `--shard 0/4` to `--shard 3/4` in four processes do a quarter each, with records
of their own (OUT/masks.0-of-4.jsonl). Processes of one jax.distributed cluster share by themselves.
"""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from PIL import Image

from sempart_jax.baselines.by_name import METHODS
from sempart_jax.data.folder import PRODUCT_FOLDERS
from sempart_jax.host import command_line
from sempart_jax.host.shown_names import printable
from sempart_jax.networks.builtin_model import builtin_model_path
from sempart_jax.networks.names import FEATURES
from sempart_jax.predict.options import INVERSIONS, METHOD_SHORT_SIDE, check_method
from sempart_jax.predict.postprocessing import POSTPROCESSINGS
from sempart_jax.runs.source import check_source
from sempart_jax.segmentation.inputs import Shard, find_inputs, parse_shard
from sempart_jax.segmentation.outputs import MASKS, check_settings

if TYPE_CHECKING:
    from sempart_jax.segmentation.collection import Summary


def define_flags() -> None:
    """Define the flags, as the program does: who imports this module has flags of its own."""
    flags.DEFINE_string(
        "workdir",
        None,
        "What segments: a run's directory, or what else load_segmenter takes; by default the "
        "built-in model.",
    )
    flags.DEFINE_enum(
        "method", None, list(METHODS), "What segments instead, without training, over --backbone."
    )
    flags.DEFINE_enum(
        "features",
        None,
        list(FEATURES),
        "Which of the backbone's features --method looks at; by default those of its family.",
    )
    flags.DEFINE_string("decoder", None, "File of FOUND's decoder, for its methods.")
    flags.DEFINE_string("out", None, "Output folder; has to be named.")
    flags.DEFINE_list("outputs", list(PRODUCT_FOLDERS), f"Among {', '.join(PRODUCT_FOLDERS)}.")
    flags.DEFINE_enum("mask", "binary", MASKS, "Values of the masks: 0 and 255, or all.")
    flags.DEFINE_float("threshold", 0.5, "Foreground is above it.")
    flags.DEFINE_bool("largest_component", False, "Keep only the largest component.")
    flags.DEFINE_enum("refine", "guided", list(POSTPROCESSINGS), "What sharpens the masks.")
    flags.DEFINE_enum(
        "invert",
        None,
        INVERSIONS,
        "Which masks are inverted; auto, the default without --method: those of more than half; "
        "never, the default of --method, which chooses its foreground itself.",
    )
    flags.DEFINE_integer(
        "resolution",
        None,
        "Short side in pixels at which the network sees an image; by default that of its training, "
        f"and {METHOD_SHORT_SIDE} with --method.",
        lower_bound=1,
    )
    flags.DEFINE_integer("batch_size", 8, "Images predicted together.", lower_bound=1)
    flags.DEFINE_string(
        "backbone",
        None,
        "Backbone of --method, dino_vits8 by default; or the one that a released head was trained "
        "on.",
    )
    flags.DEFINE_string("weights", None, "File of the backbone's weights, if it has moved.")
    flags.DEFINE_string("shard", None, "i/n: do the i-th, from 0, of n parts.")
    flags.DEFINE_bool("overwrite", False, "Do all again, with other settings too.")


def _main(arguments: Sequence[str]) -> None:
    given = flags.FLAGS
    if not arguments:
        raise ValueError("name images, folders or patterns to segment")
    if given.out is None:
        raise ValueError("name a folder for what is written: --out masks")
    source = _source()
    # Files that are too large are listed with all that cannot be read.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    shard = None if given.shard is None else parse_shard(given.shard)
    check_settings(given.outputs, given.mask, given.threshold)
    find_inputs(arguments)
    _segment(arguments, source, shard)


def _source() -> str | Path | None:
    """Return what a network is loaded from, ``None`` for a method; refuse what makes no sense."""
    given = flags.FLAGS
    if given.method is None:
        if given.decoder is not None:
            raise ValueError(
                "--decoder is FOUND's: give --method=found_multi or found_single with it"
            )
        if given.features is not None:
            raise ValueError("--features goes with --method: a network knows its own")
        source = builtin_model_path() if given.workdir is None else given.workdir
        check_source(source)
        return source
    if given.workdir is not None:
        raise ValueError("give one of --workdir, --method: what is to segment")
    check_method(given.method, **_given("backbone", "decoder"))
    return None


def _given(*names: str) -> Mapping[str, Any]:
    """Return the values of flags, but for those that have none."""
    values = {name: flags.FLAGS[name].value for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _segment(arguments: Sequence[str], source: str | Path | None, shard: Shard | None) -> None:
    # What is mistyped has been told before JAX and what computes with it are imported.
    from sempart_jax.host.compilation_cache import enable_compilation_cache
    from sempart_jax.predict.load import load_method_segmenter, load_segmenter
    from sempart_jax.segmentation.collection import Summary, segment

    enable_compilation_cache()
    given = flags.FLAGS
    options = _given(
        *("backbone", "weights", "decoder", "features"),
        *("resolution", "refine", "invert", "batch_size"),
    )
    summary = Summary()
    try:
        segment(
            arguments,
            Path(given.out),
            load_method_segmenter(given.method, **options)
            if source is None
            else load_segmenter(source, **options),
            outputs=given.outputs,
            mask=given.mask,
            threshold=given.threshold,
            largest_component=given.largest_component,
            shard=shard,
            overwrite=given.overwrite,
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


def _tell(summary: "Summary") -> None:
    for path, reason in sorted(summary.failed.items()):
        print(f"failed: {printable(path)}: {reason}", file=sys.stderr)
    print(summary)


if __name__ == "__main__":
    define_flags()
    command_line.run(_main, positional=True, resumable=True)
