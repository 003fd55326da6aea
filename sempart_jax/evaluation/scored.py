"""What is scored of a data set, and what scoring some of its images has given."""

import abc
import dataclasses
import hashlib
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Shaped

from sempart_jax.evaluation.masks import FramedImage

STAGES = ("load", "model", "post-processing", "metrics")

Arrays = dict[str, Shaped[np.ndarray, "..."]]
Masks = Mapping[str, Shaped[np.ndarray, "H W"]]
"""Soft or boolean masks of one image, by post-processing."""


class Tally(abc.ABC):
    """What has been counted of some images; made without arguments, it is of none."""

    @abc.abstractmethod
    def merge(self, other: Any) -> None:
        """Add the images of another tally of the same kind."""

    @abc.abstractmethod
    def to_arrays(self) -> Arrays:
        """Return arrays without objects that hold all of it."""

    @classmethod
    @abc.abstractmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Any:
        """Make a tally of what ``to_arrays`` gave; ValueError if that is something else."""


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
        stamp: index of an image to what changes when its files are replaced.
        pixels: index of an image to how many it takes to read it; 0 if that is not known.
    """

    names: Sequence[str]
    read: Callable[[int], tuple[FramedImage, Any]]
    count: Callable[[Masks, Any], Kind]
    tally: type[Kind]
    stamp: Callable[[int], str]
    pixels: Callable[[int], int]

    def only(self, names: Container[str]) -> "ScoredSet[Kind]":
        """Keep the images of these names."""
        indices = [index for index, name in enumerate(self.names) if name in names]
        return dataclasses.replace(
            self,
            names=[self.names[index] for index in indices],
            read=lambda index: self.read(indices[index]),
            stamp=lambda index: self.stamp(indices[index]),
            pixels=lambda index: self.pixels(indices[index]),
        )

    def fingerprint(self, indices: Sequence[int]) -> str:
        """Hash names and stamps of some images."""
        lines = [f"{self.names[index]!r} {self.stamp(index)}\n" for index in indices]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclasses.dataclass
class Scored(Generic[Kind]):
    """What scoring some images of a data set has given.

    Attributes:
        tally: what was counted.
        names: names of the scored images.
        inverted: whether the mask of each was inverted.
        left_out: images that were not scored and why, a line each.
        seconds: wall time by stage.
        seconds_before: how much of it was spent before an interruption.
    """

    tally: Kind
    names: list[str] = dataclasses.field(default_factory=list)
    inverted: list[bool] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(STAGES, 0.0)
    )
    seconds_before: float = 0.0

    def merge(self, other: "Scored[Kind]") -> None:
        """Add the images of another one."""
        self.tally.merge(other.tally)
        self.names += other.names
        self.inverted += other.inverted
        self.left_out += other.left_out
        for stage in STAGES:
            self.seconds[stage] += other.seconds[stage]

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

    def to_arrays(self) -> Arrays:
        """Return arrays without objects, see :func:`scored_from_arrays`."""
        return {
            "names": np.array(self.names, np.str_),
            "inverted": self.inverted_per_image,
            "left_out": np.array(self.left_out, np.str_),
            "seconds": np.array([self.seconds[stage] for stage in STAGES]),
            **{f"tally/{name}": array for name, array in self.tally.to_arrays().items()},
        }


def scored_from_arrays(arrays: Mapping[str, np.ndarray], tally: type[Kind]) -> Scored[Kind]:
    """Make of arrays what :meth:`Scored.to_arrays` was called on.

    Args:
        arrays: what it gave.
        tally: kind of tally.

    Raises:
        ValueError: if an array is missing or of the wrong kind.
    """
    missing = {"names", "inverted", "left_out", "seconds"} - set(arrays)
    if missing:
        raise ValueError(f"no arrays {', '.join(sorted(missing))}")
    prefix = "tally/"
    kept = {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
    return Scored(
        tally.from_arrays(kept),
        arrays["names"].tolist(),
        arrays["inverted"].tolist(),
        arrays["left_out"].tolist(),
        dict(zip(STAGES, arrays["seconds"].tolist(), strict=True)),
    )
