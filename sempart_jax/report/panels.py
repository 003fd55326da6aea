"""Pictures of masks for people to look at."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sempart_jax.host.atomic_write import write_atomically

_CELL_INCHES = 1.6
_DOTS_PER_INCH = 100


def draw_panel(columns: Mapping[str, Float[np.ndarray, "B _ _ _"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay images and masks out as a grid: a row an image, a titled column a kind.

    Args:
        columns: title to images ``[B, h, w, 3]`` or masks ``[B, h, w, 1]``, in [0, 1], the same
            ``B`` in all; sizes may differ between columns.

    Returns:
        RGB picture.

    Raises:
        ValueError: if the columns are empty or of different lengths.
    """
    rows = {len(images) for images in columns.values()}
    if len(rows) != 1 or 0 in rows:
        raise ValueError(f"a panel needs columns of one length above 0, got {sorted(rows)}")
    # Only here: a training without panels needs no matplotlib.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (count,) = rows
    figure = Figure(
        figsize=(_CELL_INCHES * len(columns), _CELL_INCHES * count + 0.3), dpi=_DOTS_PER_INCH
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(count, len(columns), squeeze=False)
    top = 1 - 0.3 / figure.get_figheight()
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=top, wspace=0.03, hspace=0.03)
    for column, (title, images) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=9, pad=4)
        for row in range(count):
            axis = axes[row, column]
            image = np.clip(images[row], 0, 1)
            # Masks share one grey scale, or a nearly empty one would be stretched to look full.
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_axis_off()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_png(picture: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """Write a picture; the folder is made if absent.

    Args:
        picture: RGB.
        path: file to write.

    Raises:
        WriteError: if it cannot be written.
    """
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    write_atomically(path, content.getvalue())
