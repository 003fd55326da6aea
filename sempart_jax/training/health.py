"""Watch a run for NaN and for collapsed masks."""

import math
from collections.abc import Mapping

from sempart_jax.host.errors import ExpectedError


class UnhealthyRunError(ExpectedError):
    """Training can only waste time from here on; the last good checkpoint is kept."""


class CollapsedRunError(UnhealthyRunError):
    """What is trained seems to tell nothing any more. Unlike NaN, that can be a false alarm."""


GO_ON = (
    "If it only looks so, the same command goes on with a larger --config.health.collapse_steps."
)
"""What a run can do that has been stopped by a false alarm."""

START_ANEW = (
    "Start in a new --workdir with a lower --config.optimizer.learning_rate, or with "
    "--config.backbone.dtype=float32, and that of the head, where they are bfloat16"
)
"""What can be done about numbers that are not finite."""


def check_finite(step: int, metrics: Mapping[str, float]) -> None:
    """Look for NaN and infinity.

    Args:
        step: number of the step, for the message.
        metrics: scalars by name.

    Raises:
        UnhealthyRunError: if one is not finite.
    """
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise UnhealthyRunError(f"step {step}: {', '.join(broken)} not finite. {START_ANEW}")


class HealthMonitor:
    """Stops a run whose numbers are no longer finite or whose masks show nothing any more."""

    def __init__(self, collapse_steps: int, lowest: float = 0.01, highest: float = 0.99) -> None:
        """Set the bounds.

        Args:
            collapse_steps: steps in a row with a bad mean mask that make a collapse.
            lowest: mean of the fine mask below which a step is bad.
            highest: mean of the fine mask above which a step is bad.
        """
        self._collapse_steps = collapse_steps
        self._lowest, self._highest = lowest, highest
        self._bad_steps = 0

    def check(self, step: int, metrics: Mapping[str, float]) -> None:
        """Look at the metrics of one step; steps come in order.

        Args:
            step: number of the step, for the message.
            metrics: scalars by name, ``mean_fine`` among them.

        Raises:
            UnhealthyRunError: if a metric is not finite.
            CollapsedRunError: if the masks have collapsed.
        """
        check_finite(step, metrics)
        mean = metrics["mean_fine"]
        self._bad_steps = 0 if self._lowest <= mean <= self._highest else self._bad_steps + 1
        if self._bad_steps >= self._collapse_steps:
            side = "background" if mean < self._lowest else "foreground"
            raise CollapsedRunError(
                f"step {step}: the masks have collapsed to all {side} (mean {mean:.4f}) for "
                f"{self._bad_steps} steps in a row. Start in a new --workdir with another "
                "--config.seed, a lower --config.optimizer.learning_rate or, for Sempart, another "
                f"--config.loss.tau. {GO_ON}"
            )
