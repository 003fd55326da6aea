"""Boxes of any method, from a JSON file."""

import json
from pathlib import Path


def read_given_boxes(path: Path) -> dict[str, list[int | float] | None]:
    """Read one box for each image.

    Args:
        path: JSON object of image id to ``[x_min, y_min, x_max, y_max]`` in pixels from 0, ends
            exclusive, or to null where nothing was found.

    Returns:
        The boxes by image id.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no such object, or a box is not four numbers; names the image.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file of boxes {path}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object of image id to box, not a {type(content)}")
    for name, box in content.items():
        if box is not None and not (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(value, int | float) and not isinstance(value, bool) for value in box)
        ):
            raise ValueError(
                f"{path}: the box of {name} is {box!r}: give [x_min, y_min, x_max, y_max] or null"
            )
    return content
