"""Notice a training of Sempart that has not left the plateau of the normalized cut."""

import math
from collections.abc import Sequence

FLAT_NCUT = 0.99
"""A mask that is the same everywhere has an N-cut of exactly 1, and no gradient to leave it."""


def plateau_advice(first_step: int, ncuts: Sequence[float], last_step: int) -> str | None:
    """Return what helps a training that is flat after a tenth of its steps; ``None`` otherwise.

    The steps of a run are passed in order and without gaps, so it advises at most once.

    Args:
        first_step: number of the first step that is passed.
        ncuts: N-cut of this and of the following steps.
        last_step: steps at the end of the run.
    """
    tenth = math.ceil(last_step / 10)
    if not first_step <= tenth < first_step + len(ncuts):
        return None
    if min(ncuts[tenth - first_step :]) < FLAT_NCUT:
        return None
    return (
        "after a tenth of the steps the N-cut is still 1: the masks are flat. It may fall later; "
        f"what helps is --config.loss.consistency_warmup_steps={max(1, last_step // 3)}, a higher "
        "--config.optimizer.learning_rate (up to 1e-3) and more steps; and a --config.loss.tau "
        "between the cosines of patches that belong together and of those that do not. "
        "See docs/training.md"
    )
