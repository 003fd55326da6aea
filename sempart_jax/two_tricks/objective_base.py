"""What a training step needs to know of an objective."""

import abc
from typing import ClassVar, Generic, NamedTuple, TypeVar

from jax import Array

from sempart_jax.two_tricks.interfaces import MaskNetwork, Prediction, Variables

Network = TypeVar("Network", bound=MaskNetwork)


class Examples(NamedTuple):
    """A batch of training images, and their pseudo-masks where the objective learns from masks.

    Attributes:
        image: RGB ``[B, H, W, 3]``, uint8 from the host, in [0, 1] once it is augmented.
        mask: pseudo-masks ``[B, H, W]`` of the same kind, 1 is foreground; ``None`` without.
    """

    image: Array
    mask: Array | None = None


class Evaluation(NamedTuple):
    """The objective of one batch.

    Attributes:
        total: weighted sum of the terms.
        terms: each term before weighting, by name.
        student: prediction for the whole images.
    """

    total: Array
    terms: dict[str, Array]
    student: Prediction


class Objective(abc.ABC, Generic[Network]):
    """What is minimised, for networks of one kind.

    Attributes:
        learns_from_masks: whether the examples need pseudo-masks.
    """

    learns_from_masks: ClassVar[bool] = False

    @abc.abstractmethod
    def evaluate(
        self,
        network: Network,
        frozen_params: Variables,
        variables: Variables,
        examples: Examples,
        *,
        keys: Array,
        step: Array,
    ) -> Evaluation:
        """Compute all loss terms of a batch in training mode.

        Args:
            network: the network.
            frozen_params: parameters that are not trained.
            variables: ``{"params", "batch_stats"}`` of what is trained.
            examples: augmented images in [0, 1].
            keys: a random key an image ``[B]``, which follows from seed, step and the image's place
                in the global batch.
            step: number of steps taken, int32.
        """
