"""Watch a pretraining for NaN and for a teacher that tells no images apart."""

import math
from collections.abc import Mapping

from sempart_jax.training.health import GO_ON, CollapsedRunError, check_finite


class CollapseMonitor:
    """Stops a pretraining whose numbers are no longer finite or whose teacher has collapsed.

    DINO can collapse in two ways (arXiv 2104.14294, Sec. 5.3): to the uniform distribution for all
    images, and to the same single output for all of them.

    The default bounds lie between what small runs on photographs measured: 64 to 256 outputs,
    batches of 16, 200 to 600 steps. Learning, the teacher's entropy stayed below 0.99 log K, the
    divergence above 2.8e-3 log K from step 20 on, and the entropy of the mean above 0.4 log K.
    Without sharpening (temperature 1), entropy and divergence were 0.9999 and 9.6e-4 log K on
    average of steps 21 to 40, and soon 1 and below 1e-4; without centring, the entropy of the
    mean was 3e-4 log K after 60 steps. Nearly uniform is no collapse yet: runs with many outputs
    begin there.
    """

    def __init__(
        self,
        outputs: int,
        *,
        collapse_steps: int,
        first_step: int,
        highest_entropy: float = 0.9999,
        highest_kl: float = 1e-3,
        lowest_mean_entropy: float = 0.05,
    ) -> None:
        """Set the bounds.

        Args:
            outputs: K, number of outputs of the projection head.
            collapse_steps: steps in a row that look collapsed and make a collapse.
            first_step: first step that counts: a fresh teacher can look like either collapse, until
                the centre has found its place and the learning rate is warmed up.
            highest_entropy: entropy of the teacher, as a part of log K, above which it is uniform,
                if the student has followed it.
            highest_kl: divergence of the student from the teacher, as a part of log K, below which
                the student has followed.
            lowest_mean_entropy: entropy of the mean distribution, as a part of log K, below which
                all images have one output. With B images it is at most log 2B.
        """
        self._largest = math.log(outputs)
        self._collapse_steps, self._first_step = collapse_steps, first_step
        self._highest_entropy, self._highest_kl = highest_entropy, highest_kl
        self._lowest_mean_entropy = lowest_mean_entropy
        self._uniform_steps = self._single_steps = 0

    def check(self, step: int, metrics: Mapping[str, float]) -> None:
        """Look at the metrics of one step; steps come in order.

        Args:
            step: number of the step.
            metrics: scalars by name, ``teacher_entropy``, ``kl`` and ``mean_entropy`` among them.

        Raises:
            UnhealthyRunError: if a metric is not finite.
            CollapsedRunError: if the teacher has collapsed.
        """
        check_finite(step, metrics)
        if step < self._first_step:
            return
        entropy, kl, mean_entropy = (
            metrics[name] / self._largest for name in ("teacher_entropy", "kl", "mean_entropy")
        )
        uniform = entropy > self._highest_entropy and kl < self._highest_kl
        single = mean_entropy < self._lowest_mean_entropy
        self._uniform_steps = self._uniform_steps + 1 if uniform else 0
        self._single_steps = self._single_steps + 1 if single else 0
        if self._uniform_steps >= self._collapse_steps:
            raise CollapsedRunError(
                f"step {step}: the teacher has collapsed to the uniform distribution (entropy "
                f"{entropy:.5f} log K, divergence {kl:.1e} log K) for {self._uniform_steps} steps "
                "in a row. Start in a new --workdir with a lower "
                "--config.dino.teacher_temperature, a lower --config.optimizer.learning_rate or "
                f"another --config.seed. {GO_ON}"
            )
        if self._single_steps >= self._collapse_steps:
            raise CollapsedRunError(
                f"step {step}: the teacher has collapsed to one output for all images (entropy of "
                f"their mean {mean_entropy:.5f} log K) for {self._single_steps} steps in a row. "
                "Start in a new --workdir with a higher --config.dino.teacher_temperature, a lower "
                f"--config.optimizer.learning_rate or another --config.seed. {GO_ON}"
            )
