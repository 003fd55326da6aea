"""What is scored of a data set, and what scoring some of its images has given."""

import abc
import dataclasses
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Shaped

from sempart_jax.evaluation.masks import FramedImage

STAGES = ("load", "model", "post-processing", "metrics")

Masks = Mapping[str, Shaped[np.ndarray, "H W"]]
"""Soft or boolean masks of one image, by post-processing."""


class Tally(abc.ABC):
    """What has been counted of some images; made without arguments, it is of none."""

    @abc.abstractmethod
    def merge(self, other: Any) -> None:
        """Add the images of another tally of the same kind."""


Kind = TypeVar("Kind", bound=Tally)


@dataclasses.dataclass(frozen=True)
class ScoredSet(Generic[Kind]):
    """A data set, and what is counted of its masks.

    Attributes:
        names: names of the images.
        read: index of an image to what is scored of it, and what is known of it; raises
            UnreadableImageError.
        count: masks of an image, by post-processing, and what is known of it to its tally.
        tally: kind of tally.
        pixels: index of an image to how many it takes to read it; 0 if that is not known.
    """

    names: Sequence[str]
    read: Callable[[int], tuple[FramedImage, Any]]
    count: Callable[[Masks, Any], Kind]
    tally: type[Kind]
    pixels: Callable[[int], int]

    def only(self, names: Container[str]) -> "ScoredSet[Kind]":
        """Keep the images of these names."""
        indices = [index for index, name in enumerate(self.names) if name in names]
        return dataclasses.replace(
            self,
            names=[self.names[index] for index in indices],
            read=lambda index: self.read(indices[index]),
            pixels=lambda index: self.pixels(indices[index]),
        )


@dataclasses.dataclass
class Scored(Generic[Kind]):
    """What scoring some images of a data set has given.

    Attributes:
        tally: what was counted.
        names: names of the scored images.
        inverted: whether the mask of each was inverted.
        left_out: images that were not scored and why, a line each.
        seconds: wall time by stage.
    """

    tally: Kind
    names: list[str] = dataclasses.field(default_factory=list)
    inverted: list[bool] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(STAGES, 0.0)
    )

    @property
    def inverted_per_image(self) -> Bool[np.ndarray, " N"]:
        """Whether the mask of each image was inverted."""
        return np.array(self.inverted, bool)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall time of what is done inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started
