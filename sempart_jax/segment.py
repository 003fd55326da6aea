r"""Segment images: files, folders with their subfolders, or patterns.

    python -m sempart_jax.segment photos 'more/**/*.jpg' one.png --workdir runs/tricks --out masks

Without `--workdir`, it uses the head over DINOv2 that comes with the package, whose backbone is
downloaded once; --weights names a file of it instead. Where it cannot be downloaded, the built-in
model (`--workdir builtin`) is used, and a warning says so.

For each image, at its own size, this writes a mask (OUT/masks/NAME.png), the image with the
foreground tinted and outlined (OUT/overlays/NAME.jpg), an RGBA cut-out (OUT/cutouts/NAME.png), and
a line with box, area, confidence and seconds in OUT/masks.jsonl. Run the same command again to
segment only images that are new, changed or failed. Images that cannot be read are listed at the
end, and the exit status is then 1.

With `--objects 3`, or `--objects all`, masks are index pictures of the largest objects, 0 being
background, and OUT/masks.jsonl has a line for each object. `--method maskcut` looks for objects by
repeated cuts; the masks of networks and other methods are taken apart into connected parts.

`--format coco` also writes the masks of the whole folder as OUT/annotations.json (run-length
encoding and box of each object, by pycocotools), `--format yolo` as polygons in OUT/yolo. Both can
be asked for later, or of the last of several shards: masks that are there are not computed again.

Use `--method tokencut` instead of `--workdir` to segment without training, over `--backbone`; see
`sempart_jax.baselines.by_name`. `--method priors` needs no backbone either.

To split a large collection over four processes, use `--shard 0/4` to `--shard 3/4`. Each shard has
its own records (OUT/masks.0-of-4.jsonl). Processes of a jax.distributed cluster take their shards
by themselves.
"""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from PIL import Image

from sempart_jax.data.folder import PRODUCT_FOLDERS
from sempart_jax.host import command_line
from sempart_jax.host.shown_names import printable
from sempart_jax.networks import builtin_model
from sempart_jax.predict.options import (
    INVERSIONS,
    check_method,
    define_method_flags,
    define_network_flags,
    given_flags,
)
from sempart_jax.predict.postprocessing import POSTPROCESSINGS
from sempart_jax.runs.source import find_source
from sempart_jax.segmentation.formats import check_formats
from sempart_jax.segmentation.inputs import Shard, find_inputs, parse_shard
from sempart_jax.segmentation.outputs import MASKS, check_settings, parse_objects

if TYPE_CHECKING:
    from sempart_jax.segmentation.collection import Summary


def define_flags() -> None:
    """Define the flags, as the program does: who imports this module has flags of its own."""
    define_network_flags(
        "Network: a run's directory, a checkpoint, a model file or a released head. Default: "
        f"{builtin_model.DINOV2}, the head of the package over DINOv2 ViT-S/14."
    )
    define_method_flags()
    flags.DEFINE_string("out", None, "Output folder (required).")
    flags.DEFINE_list("outputs", list(PRODUCT_FOLDERS), f"Any of {', '.join(PRODUCT_FOLDERS)}.")
    flags.DEFINE_enum("mask", "binary", MASKS, "0 and 255 only, or all grey levels.")
    flags.DEFINE_float("threshold", 0.5, "Mask value above which a pixel is foreground.")
    flags.DEFINE_bool("largest_component", False, "Keep only the largest connected part.")
    flags.DEFINE_string(
        "objects",
        "1",
        "Most objects of an image, or all: an index picture, a row for each. 1: one foreground.",
    )
    flags.DEFINE_float(
        "least_confidence", 0.0, "A foreground or object with less confidence is left out."
    )
    flags.DEFINE_list(
        "format",
        [],
        "coco: OUT/annotations.json with all masks of the folder; yolo: OUT/yolo with polygons.",
    )
    flags.DEFINE_enum("refine", "guided", list(POSTPROCESSINGS), "How to sharpen the masks.")
    flags.DEFINE_enum(
        "invert",
        None,
        INVERSIONS,
        "Which masks to invert; auto: those that cover more than half of the image. Default: auto, "
        "or never with --method and networks that know the foreground, as that of the package.",
    )
    flags.DEFINE_integer("batch_size", 8, "Images per batch.", lower_bound=1)
    flags.DEFINE_string("shard", None, "i/n: segment the i-th of n parts, counted from 0.")
    flags.DEFINE_bool("overwrite", False, "Segment all images again, possibly with other settings.")


def _main(arguments: Sequence[str]) -> None:
    given = flags.FLAGS
    if not arguments:
        raise ValueError("give images, folders or patterns to segment")
    if given.out is None:
        raise ValueError("give an output folder: --out masks")
    _check_source()
    # Files that are too large are listed with all that cannot be read.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    shard = None if given.shard is None else parse_shard(given.shard)
    check_settings(
        *(given.outputs, given.mask, given.threshold, parse_objects(given.objects)),
        *(given.largest_component, given.least_confidence),
    )
    check_formats(given.format, given.outputs, given.mask)
    find_inputs(arguments)
    _segment(arguments, shard)


def _check_source() -> None:
    """Refuse what no mask can come from."""
    given = flags.FLAGS
    if given.method is None:
        if given.decoder is not None:
            raise ValueError("--decoder needs --method=found_multi or --method=found_single")
        if given.features is not None:
            raise ValueError(
                "--features applies to --method only: a network uses the features it was trained on"
            )
        find_source(given.workdir)
        return
    if given.workdir is not None:
        raise ValueError("give either --workdir or --method, not both")
    check_method(given.method, **given_flags("backbone", "decoder", "weights", "features"))


def _segment(arguments: Sequence[str], shard: Shard | None) -> None:
    # What is mistyped has been told before JAX and what computes with it are imported.
    from sempart_jax.host.compilation_cache import enable_compilation_cache
    from sempart_jax.host.devices import check_gpu, tell_devices
    from sempart_jax.predict.load import load_method_segmenter, load_segmenter
    from sempart_jax.segmentation.collection import Summary, segment

    enable_compilation_cache()
    given = flags.FLAGS
    check_gpu(given.require_gpu)
    options = given_flags(
        *("backbone", "weights", "decoder", "features"),
        *("resolution", "refine", "invert", "batch_size"),
    )
    segmenter = (
        load_segmenter(given.workdir, **options)
        if given.method is None
        else load_method_segmenter(given.method, **options)
    )
    tell_devices(segmenter.computation)
    summary = Summary()
    try:
        segment(
            arguments,
            Path(given.out),
            segmenter,
            outputs=given.outputs,
            mask=given.mask,
            threshold=given.threshold,
            largest_component=given.largest_component,
            objects=parse_objects(given.objects),
            least_confidence=given.least_confidence,
            formats=given.format,
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
