"""What a training step needs to know of a network and of its objective."""

import abc
import dataclasses
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from sempart_jax.two_tricks.filters import grey_guide, guided_filter

Variables = dict[str, Any]


class Prediction(NamedTuple):
    """What a network says of a batch of images.

    Attributes:
        coarse: mask on patches ``[B, h, w, 1]`` in [0, 1]; 1 is foreground.
        fine: mask on pixels ``[B, H, W, 1]`` in [0, 1].
        batch_stats: running averages of batch norm after this call; empty without batch norm.
        keys: keys of the frozen backbone ``[B, h, w, D]``, without gradient; ``None`` where there
            is none.
    """

    coarse: Array
    fine: Array
    batch_stats: Variables
    keys: Any = None


@dataclasses.dataclass(frozen=True)
class MaskNetwork(abc.ABC):
    """A network from an RGB image in [0, 1] to masks in [0, 1], and the guided filter behind it.

    Attributes:
        radius: radius of the guided filter in pixels.
        filter_eps: regularisation of the guided filter.
    """

    radius: int = dataclasses.field(default=9, kw_only=True)
    filter_eps: float = dataclasses.field(default=1e-3, kw_only=True)

    @property
    @abc.abstractmethod
    def patch_size(self) -> int:
        """Side of the backbone's patches in pixels, which divides the sides of every image."""

    @abc.abstractmethod
    def init(self, key: Array, frozen_params: Variables, image_size: int) -> Variables:
        """Draw the first values of what is trained.

        Args:
            key: random key.
            frozen_params: parameters that are not trained.
            image_size: side of a square image in pixels that the patch divides.

        Returns:
            ``{"params", "batch_stats"}``; ``batch_stats`` is empty without batch norm.
        """

    def shapes(self, frozen_params: Variables, image_size: int) -> Variables:
        """Tell what :meth:`init` draws without drawing it, which would compile for long."""
        return dict(jax.eval_shape(lambda: self.init(jax.random.key(0), frozen_params, image_size)))

    @abc.abstractmethod
    def predict(
        self,
        frozen_params: Variables,
        variables: Variables,
        image: Float[Array, "B H W 3"],
        *,
        train: bool = False,
    ) -> Prediction:
        """Predict both masks.

        Args:
            frozen_params: parameters that are not trained; no gradient flows into them.
            variables: ``{"params", "batch_stats"}`` of what is trained.
            image: RGB ``[B, H, W, 3]`` in [0, 1], sides divisible by the patch.
            train: batch norm by the statistics of the batch instead of the running averages.

        Returns:
            Masks and running averages.
        """

    def refine(
        self, image: Float[Array, "B H W 3"], mask: Float[Array, "B H W 1"]
    ) -> Float[Array, "B H W 1"]:
        """Sharpen a mask by the guided filter (trick 1) and clip it to [0, 1]."""
        filtered = guided_filter(grey_guide(image), mask, self.radius, self.filter_eps)
        return jnp.clip(filtered, 0.0, 1.0)


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
