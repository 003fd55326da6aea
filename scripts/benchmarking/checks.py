"""Do both sides of a comparison compute the same? Otherwise their times say nothing."""

from typing import Any

import numpy as np

TOLERANCE = 1e-4
BORDER = 18
"""Twice the radius of the guided filter: so far a border reaches into its result."""


class DisagreementError(RuntimeError):
    """The results of two sides are too far apart."""


def agree(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Compare two arrays and tell their largest difference.

    Raises:
        DisagreementError: if it is above :data:`TOLERANCE`.
    """
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise DisagreementError(
            f"the results differ by {difference:.1e}, more than {TOLERANCE:.0e}"
        )
    return f"results differ by {difference:.0e} at most"


def interiors_agree(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Compare two filtered masks ``[H, W]`` where no window has met the border.

    Raises:
        DisagreementError: if they differ by more than :data:`TOLERANCE`.
    """
    inside = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    return f"{agree(ours[inside], theirs[inside])}, {BORDER} pixels from the border and further in"


def tell_errors(ours: Any, theirs: Any) -> str:
    """Tell the errors that are the results of both sides."""
    return f"errors against float64: {ours:.0e} and {theirs:.0e}"
