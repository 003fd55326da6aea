"""What a run trains, as the training loop sees it."""

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Generic

from ml_collections import ConfigDict

from sempart_jax.data.folder import find_pairs
from sempart_jax.data.image_sources import ImageSource, Samples, read_samples
from sempart_jax.runs.checkpoints import State
from sempart_jax.training.log import TrainingLog
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.train_step import Metrics


class TrainingTask(abc.ABC, Generic[State]):
    """States and steps of what is trained, and how to look at it.

    The process that writes the run calls :meth:`open_views` once, then :meth:`draw_panel`,
    :meth:`validate` and :meth:`write_export`; the others call none of these.

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
    def open_views(self) -> None:
        """Read the images of the panels, and find those of the validation."""

    @abc.abstractmethod
    def draw_panel(self, step: int, state: State, log: TrainingLog) -> None:
        """Draw what a replicated state does with a few images; WriteError if it cannot be kept."""

    @abc.abstractmethod
    def validate(self, step: int, state: State) -> tuple[dict[str, float], float | None]:
        """Score a replicated state on the validation set.

        Returns:
            IoU by name, none without a validation set; and the score by which the best checkpoint
            is chosen, or ``None`` where none is.
        """

    def write_export(self, state: State, workdir: Path) -> None:
        """Write what others can use of a state on the host, before it is kept: nothing here."""

    def advise(self, first_step: int, rows: Sequence[dict[str, float]]) -> str | None:
        """Say what would help a training that goes badly, given the metrics of some steps."""
        return None


def read_views(config: ConfigDict, images: ImageSource) -> tuple[Samples, list[tuple[Path, Path]]]:
    """Read the training images of the panels, and find the pairs of the validation set, if any."""
    samples = read_samples(
        images,
        config.log.panel_images,
        image_size=config.data.image_size,
        resize_size=config.data.resize_size,
    )
    if not config.validation.images:
        return samples, []
    return samples, find_pairs(config.validation.images, config.validation.masks)
