"""Strips of example images with their masks, as HTML that holds the pictures."""

import base64
import html
import io
import math

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from sempart_jax.evaluation.results import Example, Examples
from sempart_jax.report.titles import postprocessing_title, printable

STRIPS = 12
"""Images shown from either end."""
_LONGEST_SIDE = 224
_QUALITY = 80


def example_strips(examples: Examples) -> str:
    """Show the best and the worst images of a section.

    Args:
        examples: images with their masks; the first :data:`STRIPS` of either end are shown.

    Returns:
        HTML of two foldable blocks.
    """
    chosen_by = html.escape(printable(postprocessing_title(examples.chosen_by)))
    blocks = []
    for kind, shown in (("best", examples.best), ("worst", examples.worst)):
        if not shown:
            continue
        strips = "\n".join(_strip(example) for example in shown[:STRIPS])
        count = len(shown[:STRIPS])
        blocks.append(
            f'<details open class="examples"><summary>The {count} {kind} by IoU, {chosen_by}'
            f"</summary>\n{strips}\n</details>"
        )
    return "\n".join(blocks)


def encode_jpeg(picture: Shaped[np.ndarray, "H W *C"]) -> bytes:
    """Encode a picture as JPEG, no side longer than a column of a page needs.

    Args:
        picture: RGB ``[H, W, 3]`` in uint8, or a mask ``[H, W]`` in [0, 1] or boolean.

    Returns:
        The file.
    """
    if picture.dtype != np.uint8:
        picture = np.rint(np.clip(picture, 0, 1).astype(np.float32) * 255).astype(np.uint8)
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def _strip(example: Example) -> str:
    name = html.escape(printable(example.name))
    cells = "".join(_cell(example, key) for key in example.pictures)
    return (
        f'<section class="strip"><h4>{name} '
        f"<small>object {_percent(example.object_size)} of the image</small></h4>"
        f'<div class="pictures">{cells}</div></section>'
    )


def _cell(example: Example, key: str) -> str:
    picture = example.pictures[key]
    title = html.escape(printable(postprocessing_title(key)))
    name = html.escape(printable(example.name))
    caption = title
    alternative = f"{title}: {name}"
    if key in example.iou:
        iou = example.iou[key]
        score = "IoU –" if math.isnan(iou) else f"IoU {iou:.3f}"
        caption += f" <b>{score}</b>"
        alternative += f", {score}"
    data = base64.b64encode(encode_jpeg(picture)).decode("ascii")
    height, width = picture.shape[:2]
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{alternative}" '
        f'width="{width}" height="{height}"><figcaption>{caption}</figcaption></figure>'
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.{0 if fraction >= 0.1 else 1}f} %"
