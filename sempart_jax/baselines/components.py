"""Connected components of masks on patches."""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool


def component_of(mask: Bool[np.ndarray, "h w"], seed: int) -> Bool[np.ndarray, "h w"]:
    """Keep the 4-connected component of a mask that holds a patch, by its number row by row.

    Where the patch lies in no component, it is kept alone.
    """
    labels, _ = scipy.ndimage.label(mask)
    label = labels.flat[seed]
    if label:
        return np.asarray(labels == label)
    alone = np.zeros(mask.shape, bool)
    alone.flat[seed] = True
    return alone


def largest_component(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Keep the 4-connected component of most patches, the first of equals; an empty mask stays."""
    labels, count = scipy.ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(labels == 1 + int(np.argmax(sizes)))
