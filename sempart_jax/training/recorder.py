"""What the one process of a run that writes records of it as it goes."""

import abc
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from sempart_jax.evaluation.masks import Mask
from sempart_jax.runs.checkpoints import Checkpoints, State
from sempart_jax.runs.run_record import missed_look, note_kept_step, note_missed_look
from sempart_jax.training.health import START_ANEW, UnhealthyRunError
from sempart_jax.two_tricks.train_step import unreplicate


class RunRecorder(abc.ABC, Generic[State]):
    """Keeps the state of a run, and looks at it, on the devices of this process alone."""

    def __init__(self, config: ConfigDict, workdir: Path, checkpoints: Checkpoints) -> None:
        """Choose where states go.

        Args:
            config: configuration of the run.
            workdir: directory of the run, which is registered.
            checkpoints: those of the run.
        """
        self._config, self._workdir, self._checkpoints = config, workdir, checkpoints

    @abc.abstractmethod
    def draw_panel(self, step: int, state: State) -> None:
        """Draw what a replicated state does with a few images; WriteError if it cannot be kept.

        Args:
            step: number of steps taken.
            state: replicated state.
        """

    @abc.abstractmethod
    def validate(self, step: int, state: State, between_parts: Callable[[], None]) -> None:
        """Score a replicated state on the validation set; WriteError if that cannot be kept.

        Args:
            step: number of steps taken.
            state: replicated state.
            between_parts: called every few images; what it raises ends the scoring.
        """

    def is_look_due(self, step: int, *, at_end: bool) -> bool:
        """Whether there is something to draw or to measure: at both ends, and every so often.

        Args:
            step: number of steps taken.
            at_end: whether it is the last step.
        """
        return any(self._due(step, at_end))

    def look(
        self, step: int, state: State, *, at_end: bool, between_parts: Callable[[], None]
    ) -> None:
        """Draw and measure what is due.

        Args:
            step: number of steps taken.
            state: replicated state.
            at_end: whether it is the last step.
            between_parts: called every few images; what it raises ends the look.

        Raises:
            UnhealthyRunError: if the state is not finite.
            WriteError: if something cannot be written.
        """
        panel_due, validation_due = self._due(step, at_end)
        if panel_due or validation_due:
            check_finite_state(unreplicate(state))
        if panel_due:
            between_parts()
            self.draw_panel(step, state)
        if validation_due:
            between_parts()
            self.validate(step, state, between_parts)

    def _due(self, step: int, at_end: bool) -> tuple[bool, bool]:
        at_either_end = at_end or step == 0
        return (
            at_either_end or is_due(step, self._config.log.panels_every_steps),
            at_either_end or is_due(step, self._config.validation.every_steps),
        )

    def misses_look(self, step: int) -> bool:
        """Whether a state was kept without the look that was due: there was no time for it."""
        return missed_look(self._workdir) == step

    def note_missed_look(self, step: int | None) -> None:
        """Record that a state is going to be kept without the look that was due.

        Args:
            step: of the state; ``None`` once it has been made up for.
        """
        note_missed_look(self._workdir, step)

    def write_export(self, state: State) -> None:
        """Write what others can use of a state, before it is kept: nothing here.

        Args:
            state: state on the host.
        """

    def save(self, state: State, *, wait: bool) -> None:
        """Keep a replicated state.

        Args:
            state: replicated state.
            wait: until it is written; otherwise that is known by the next time.

        Raises:
            UnhealthyRunError: if it is not finite.
            WriteError: if it, or the one before, cannot be written.
        """
        host_state: State = jax.device_get(unreplicate(state))
        check_finite_state(host_state)
        # First, so that a run whose last checkpoint is there has its last export, too.
        self.write_export(host_state)
        before = self._checkpoints.latest_step
        self._checkpoints.save(host_state)
        if wait:
            self._checkpoints.wait()
            before = self._checkpoints.latest_step
        if before is not None:
            note_kept_step(self._workdir, before)

    def save_first(self, state: State) -> None:
        """Keep a replicated state where none is kept yet, unless it is not finite.

        Args:
            state: replicated state.

        Raises:
            WriteError: if it cannot be written.
        """
        if self._checkpoints.latest_step is None:
            with contextlib.suppress(UnhealthyRunError):
                self.save(state, wait=True)


def check_finite_state(state: State) -> None:
    """Refuse a state that the last update has broken: its loss has been finite still.

    Args:
        state: unreplicated state.

    Raises:
        UnhealthyRunError: if an array holds NaN or infinity.
    """
    state = jax.device_get(state)
    broken = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all()
    ]
    if broken:
        raise UnhealthyRunError(
            f"step {int(state.step)}: {len(broken)} arrays of the state, {broken[0]} first, are "
            f"not finite. {START_ANEW}"
        )


def is_due(step: int, every: int) -> bool:
    """Whether something is done after a step that is done every so many steps, or never at 0."""
    return every > 0 and step % every == 0


ImagesPredictor = Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], list[Mask]]
"""From images of any sizes to a soft mask of each."""


def in_parts(
    predictor: ImagesPredictor, batch_size: int, between_parts: Callable[[], None]
) -> ImagesPredictor:
    """Let a predictor take few images at a time.

    Args:
        predictor: predicts for any number of images.
        batch_size: images that it takes together on one device.
        between_parts: called before each part.
    """
    size = batch_size * jax.local_device_count()

    def predict(images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Mask]:
        masks: list[Mask] = []
        for start in range(0, len(images), size):
            between_parts()
            masks += predictor(images[start : start + size])
        return masks

    return predict
