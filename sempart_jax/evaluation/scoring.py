"""Score the masks of a data set part by part: load, predict, post-process, measure."""

import abc
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from absl import logging
from jaxtyping import Bool, Shaped

from sempart_jax.data.images import UnreadableImageError
from sempart_jax.evaluation.masks import Failure, FramedImage, MaskSource
from sempart_jax.evaluation.part_store import PartStore
from sempart_jax.evaluation.protocols import Protocol, inverted_masks
from sempart_jax.postprocessing import postprocess

PART_SIZE = 64
"""Images that are scored at a time, and the most that a kill loses; a multiple of the batch rule's
eight."""
STAGES = ("load", "model", "post-processing", "metrics")
_FINGERPRINT = "fingerprint"

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
    """

    names: Sequence[str]
    read: Callable[[int], tuple[FramedImage, Any]]
    count: Callable[[Masks, Any], Kind]
    tally: type[Kind]
    stamp: Callable[[int], str]

    def only(self, names: Container[str]) -> "ScoredSet[Kind]":
        """Keep the images of these names."""
        indices = [index for index, name in enumerate(self.names) if name in names]
        return dataclasses.replace(
            self,
            names=[self.names[index] for index in indices],
            read=lambda index: self.read(indices[index]),
            stamp=lambda index: self.stamp(indices[index]),
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


def score(
    scored_set: ScoredSet[Kind],
    source: MaskSource,
    protocol: Protocol,
    *,
    foreground_rule: str,
    postprocessings: Sequence[str],
    store: PartStore | None = None,
    advance: Callable[[int], object] = lambda images: None,
) -> Scored[Kind]:
    """Score a data set, but for the parts that are kept already.

    Which side of a mask is foreground is decided on the mask as it comes from the source; the
    post-processings then work on the chosen side.

    Args:
        scored_set: images, and what is counted.
        source: where the masks come from.
        protocol: what is scored of an image.
        foreground_rule: see ``evaluation.protocols.inverted_masks``.
        postprocessings: names of ``postprocessing``.
        store: finished parts; ``None`` keeps none.
        advance: called with the number of images after each part.

    Returns:
        What was counted of all readable images, in their order.

    Raises:
        ValueError: if no image can be scored.
    """
    total = Scored(scored_set.tally())
    count = len(scored_set.names)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, start in enumerate(range(0, count, PART_SIZE)):
            indices = range(start, min(start + PART_SIZE, count))
            # Before the images are read: what changes meanwhile is noticed the next time.
            fingerprint = scored_set.fingerprint(indices)
            part = _kept(store, number, fingerprint, scored_set.tally)
            if part is None:
                part = _score_part(
                    scored_set, indices, source, protocol, foreground_rule, postprocessings, pool
                )
                if store is not None:
                    store.save(number, {**part.to_arrays(), _FINGERPRINT: np.array(fingerprint)})
            else:
                total.seconds_before += sum(part.seconds.values())
            for line in part.left_out:
                logging.warning("left out: %s", line)
            total.merge(part)
            advance(len(indices))
    if not total.names:
        reasons = "; ".join(total.left_out[:3])
        raise ValueError(f"none of the {count} images can be scored: {reasons}")
    return total


def _kept(
    store: PartStore | None, number: int, fingerprint: str, tally: type[Kind]
) -> Scored[Kind] | None:
    """Find a part of the same images, unless files of theirs have been replaced."""
    arrays = None if store is None else store.load(number)
    if arrays is None or arrays.get(_FINGERPRINT) != fingerprint:
        return None
    try:
        return scored_from_arrays(arrays, tally)
    except ValueError as error:
        logging.warning("scoring part %d again, what was kept of it is damaged: %s", number, error)
        return None


def _score_part(
    scored_set: ScoredSet[Kind],
    indices: Sequence[int],
    source: MaskSource,
    protocol: Protocol,
    foreground_rule: str,
    postprocessings: Sequence[str],
    pool: ThreadPoolExecutor,
) -> Scored[Kind]:
    part = Scored(scored_set.tally())

    def read(index: int) -> tuple[FramedImage, Any] | Failure:
        try:
            return scored_set.read(index)
        except UnreadableImageError as error:
            return Failure(str(error))

    with part.timed("load"):
        loaded = list(pool.map(read, indices))
    part.left_out += [item.reason for item in loaded if isinstance(item, Failure)]
    readable = [item for item in loaded if not isinstance(item, Failure)]
    with part.timed("model"):
        predicted = source([framed for framed, _ in readable], protocol)
    part.left_out += [mask.reason for mask in predicted if isinstance(mask, Failure)]
    pairs = [
        (framed, truth, mask)
        for (framed, truth), mask in zip(readable, predicted, strict=True)
        if not isinstance(mask, Failure)
    ]
    part.names = [framed.name for framed, _, _ in pairs]
    inverted = inverted_masks([mask for _, _, mask in pairs], foreground_rule)
    part.inverted = inverted.tolist()
    with part.timed("post-processing"):
        chosen = [
            (framed.image, 1 - mask if swapped else mask)
            for (framed, _, mask), swapped in zip(pairs, part.inverted, strict=True)
        ]
        processed = list(
            pool.map(
                lambda item: {name: postprocess(name, *item) for name in postprocessings}, chosen
            )
        )
    with part.timed("metrics"):
        truths = [truth for _, truth, _ in pairs]
        for tally in pool.map(scored_set.count, processed, truths):
            part.tally.merge(tally)
    return part
