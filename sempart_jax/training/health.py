"""Stop a run that is not finite or has collapsed, and advise one whose N-cut stays flat."""

import math
from collections.abc import Mapping, Sequence

from sempart_jax.host.errors import ExpectedError


class UnhealthyRunError(ExpectedError):
    """Training can only waste time from here on; the last good checkpoint is kept."""


class CollapsedRunError(UnhealthyRunError):
    """What is trained seems to tell nothing any more. Unlike NaN, that can be a false alarm."""


GO_ON = "If this is a false alarm, repeat the command with a larger --config.health.collapse_steps."
"""What a run can do that has been stopped by a false alarm."""

START_ANEW = (
    "Start again in a new --workdir with a lower --config.optimizer.learning_rate, or in float32 "
    "(--config.backbone.dtype=float32, and the same for the head) if you used bfloat16"
)
"""What can be done about numbers that are not finite."""


def check_finite(step: int, metrics: Mapping[str, float]) -> None:
    """Look for NaN and infinity."""
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise UnhealthyRunError(f"step {step}: not finite: {', '.join(broken)}. {START_ANEW}")


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
        """Look at the metrics of one step; steps come in order."""
        check_finite(step, metrics)
        mean = metrics["mean_fine"]
        self._bad_steps = 0 if self._lowest <= mean <= self._highest else self._bad_steps + 1
        if self._bad_steps >= self._collapse_steps:
            side = "background" if mean < self._lowest else "foreground"
            raise CollapsedRunError(
                f"step {step}: the masks have collapsed to all {side} (mean {mean:.4f}) for "
                f"{self._bad_steps} steps in a row. Start again in a new --workdir with another "
                "--config.seed, a lower --config.optimizer.learning_rate or, for Sempart, another "
                f"--config.loss.tau. {GO_ON}"
            )


UNIFORM_ENTROPY, FOLLOWED_KL = 0.9999, 1e-3
"""Parts of log K: the teacher is uniform above the first, if the student has followed it, which
diverges from it by less than the second."""
LOWEST_MEAN_ENTROPY = 0.05
"""Part of log K below which all images have one output. With B images it is at most log 2B."""


class CollapseMonitor:
    """Stops a pretraining whose numbers are no longer finite or whose teacher has collapsed.

    DINO can collapse in two ways (arXiv 2104.14294, Sec. 5.3): to the uniform distribution for all
    images, and to the same single output for all of them.

    The bounds lie between what small runs on photographs measured: 64 to 256 outputs,
    batches of 16, 200 to 600 steps. Learning, the teacher's entropy stayed below 0.99 log K, the
    divergence above 2.8e-3 log K from step 20 on, and the entropy of the mean above 0.4 log K.
    Without sharpening (temperature 1), entropy and divergence were 0.9999 and 9.6e-4 log K on
    average of steps 21 to 40, and soon 1 and below 1e-4; without centring, the entropy of the
    mean was 3e-4 log K after 60 steps. Nearly uniform is no collapse yet: runs with many outputs
    begin there.
    """

    def __init__(self, outputs: int, *, collapse_steps: int, first_step: int) -> None:
        """Set the bounds.

        Args:
            outputs: K, number of outputs of the projection head.
            collapse_steps: steps in a row that look collapsed and make a collapse.
            first_step: first step that counts: a fresh teacher can look like either collapse, until
                the centre has found its place and the learning rate is warmed up.
        """
        self._largest = math.log(outputs)
        self._collapse_steps, self._first_step = collapse_steps, first_step
        self._uniform_steps = self._single_steps = 0

    def check(self, step: int, metrics: Mapping[str, float]) -> None:
        """Look at the metrics of one step; steps come in order."""
        check_finite(step, metrics)
        if step < self._first_step:
            return
        entropy, kl, mean_entropy = (
            metrics[name] / self._largest for name in ("teacher_entropy", "kl", "mean_entropy")
        )
        uniform = entropy > UNIFORM_ENTROPY and kl < FOLLOWED_KL
        single = mean_entropy < LOWEST_MEAN_ENTROPY
        self._uniform_steps = self._uniform_steps + 1 if uniform else 0
        self._single_steps = self._single_steps + 1 if single else 0
        if self._uniform_steps >= self._collapse_steps:
            raise CollapsedRunError(
                f"step {step}: the teacher has collapsed to the uniform distribution (entropy "
                f"{entropy:.5f} log K, divergence {kl:.1e} log K) for {self._uniform_steps} steps "
                "in a row. Start again in a new --workdir with a lower "
                "--config.dino.teacher_temperature, a lower --config.optimizer.learning_rate or "
                f"another --config.seed. {GO_ON}"
            )
        if self._single_steps >= self._collapse_steps:
            raise CollapsedRunError(
                f"step {step}: the teacher has collapsed to one output for all images (entropy of "
                f"their mean {mean_entropy:.5f} log K) for {self._single_steps} steps in a row. "
                "Start again in a new --workdir with a higher --config.dino.teacher_temperature, a "
                f"lower --config.optimizer.learning_rate or another --config.seed. {GO_ON}"
            )


FLAT_NCUT = 0.99
"""A mask that is the same everywhere has an N-cut of exactly 1, and no gradient to leave it."""


LEAST_STEPS = 100
"""Steps that any training may take to leave the plateau: those of the demo take 30 to 100."""


def plateau_advice(first_step: int, ncuts: Sequence[float], last_step: int) -> str | None:
    """Return what helps a training that is flat after a tenth of its steps; ``None`` otherwise.

    In short trainings, :data:`LEAST_STEPS` count instead, or their end.

    The steps of a run are passed in order and without gaps, so it advises at most once.

    Args:
        first_step: number of the first step that is passed.
        ncuts: N-cut of this and of the following steps.
        last_step: steps at the end of the run.
    """
    told_at = min(last_step, max(LEAST_STEPS, math.ceil(last_step / 10)))
    if not first_step <= told_at < first_step + len(ncuts):
        return None
    if min(ncuts) < FLAT_NCUT:
        return None
    return (
        f"after {told_at} steps the N-cut is still 1: the masks are flat. It may fall later. "
        f"If not, try --config.loss.consistency_warmup_steps={max(1, last_step // 3)}, a higher "
        "--config.optimizer.learning_rate (up to 1e-3), more steps, or another --config.loss.tau. "
        "See docs/training.md"
    )
