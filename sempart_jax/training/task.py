"""What a run trains, as its loop, its checkpoints and its log see it."""

import abc
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Generic

from sempart_jax.runs.checkpoints import Checkpoints, State
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.recorder import RunRecorder
from sempart_jax.two_tricks.objective_base import Examples
from sempart_jax.two_tricks.train_step import Metrics


class TrainingTask(abc.ABC, Generic[State]):
    """States, steps and records of whatever is trained.

    Attributes:
        described: what is trained, in a few words, for the log.
    """

    described: str

    @abc.abstractmethod
    def empty_state(self) -> State:
        """Return a state of zeros to read a checkpoint into."""

    @abc.abstractmethod
    def initial_state(self) -> State:
        """Draw the state of step 0; FileNotFoundError if weights that it starts from are gone."""

    @abc.abstractmethod
    def take_step(self, state: State, examples: Examples) -> tuple[State, Metrics]:
        """Take a step on all devices, without waiting for it.

        Args:
            state: replicated state, which is used up.
            examples: uint8 images, and masks where there are some, ``[devices, B, H, W, ...]``.

        Returns:
            The next state, and scalars by name ``[devices]``.
        """

    @abc.abstractmethod
    def check_health(self, step: int, metrics: dict[str, float]) -> None:
        """Look at the metrics of a step; UnhealthyRunError if training can only waste time.

        Args:
            step: number of the step; they come in order.
            metrics: what it has returned.
        """

    @abc.abstractmethod
    def recorder(
        self, workdir: Path, checkpoints: Checkpoints, log: TrainingLog
    ) -> AbstractContextManager[RunRecorder[State]]:
        """Open what records the run in the process that writes.

        Args:
            workdir: directory of the run.
            checkpoints: where the newest states go.
            log: where panels and scores go.
        """
