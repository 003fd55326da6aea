"""What the one process of a run that writes records of it as it goes."""

import abc
from pathlib import Path
from typing import Generic

import jax
import jax.numpy as jnp

from sempart_jax.checkpoints import Checkpoints, State
from sempart_jax.train_step import unreplicate
from sempart_jax.training.run_record import note_kept_step


class RunRecorder(abc.ABC, Generic[State]):
    """Keeps the state of a run, and looks at it, on the devices of this process alone."""

    def __init__(self, workdir: Path, checkpoints: Checkpoints) -> None:
        """Choose where states go.

        Args:
            workdir: directory of the run, which is registered.
            checkpoints: those of the run.
        """
        self._workdir, self._checkpoints = workdir, checkpoints

    @abc.abstractmethod
    def look(self, step: int, state: State, *, at_end: bool) -> None:
        """Draw and measure what is due: at the first step, at the last, and every so often.

        Args:
            step: number of steps taken.
            state: replicated state.
            at_end: whether it is the last step.

        Raises:
            WriteError: if something cannot be written.
        """

    def save(self, state: State, *, wait: bool) -> None:
        """Keep a replicated state.

        Args:
            state: replicated state.
            wait: until it is written; otherwise that is known by the next time.

        Raises:
            WriteError: if it, or the one before, cannot be written.
        """
        before = self._checkpoints.latest_step
        self._checkpoints.save(unreplicate(state))
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
        finite = all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(unreplicate(state)))
        if self._checkpoints.latest_step is None and finite:
            self.save(state, wait=True)


def is_due(step: int, every: int) -> bool:
    """Whether something is done after a step that is done every so many steps, or never at 0."""
    return every > 0 and step % every == 0
