"""Trick 2: multi-scale consistency between a region and the whole (two tricks, Sec. 4).

The student sees the whole image, the teacher a region of it zoomed to the same size. The teacher's
mask, sharpened by the guided filter, is what the student's mask of that region should be.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int, PRNGKeyArray, Shaped

from sempart_jax.kernels.resize import resize_bilinear
from sempart_jax.two_tricks.filters import grey_guide, guided_filter
from sempart_jax.two_tricks.interfaces import Network, Objective, Prediction, Variables
from sempart_jax.two_tricks.losses import Scalar, equivariance


def random_corners(
    keys: Shaped[PRNGKeyArray, " B"], height: int, width: int, crop_height: int, crop_width: int
) -> Int[Array, "B 2"]:
    """Draw the top-left corner of a crop for each image, uniform over all that fit.

    Args:
        keys: one random key an image, so that the draw does not depend on how a batch is spread
            over devices.
        height: height of the image in pixels.
        width: width of the image in pixels.
        crop_height: height of the crop in pixels, at most ``height``.
        crop_width: width of the crop in pixels, at most ``width``.

    Returns:
        ``[B, 2]`` rows and columns, int32.

    Raises:
        ValueError: if the crop is empty or larger than the image.
    """
    if not (0 < crop_height <= height and 0 < crop_width <= width):
        raise ValueError(f"crop {crop_height}x{crop_width} does not fit in {height}x{width}")
    ends = jnp.array([height - crop_height + 1, width - crop_width + 1], jnp.int32)
    return jax.vmap(lambda key: jax.random.randint(key, (2,), 0, ends, jnp.int32))(keys)


def crop_and_zoom(
    x: Float[Array, "B H W C"], corners: Int[Array, "B 2"], crop_height: int, crop_width: int
) -> Float[Array, "B H W C"]:
    """Cut one region out of each image and enlarge it bilinearly to the image's size (step 2).

    Args:
        x: images or masks ``[B, H, W, C]``.
        corners: row and column of each region's top-left pixel ``[B, 2]``; as
            :func:`random_corners` draws them, a region that would leave the image is moved inside.
        crop_height: height of the region in pixels.
        crop_width: width of the region in pixels.

    Returns:
        Zoomed regions ``[B, H, W, C]``.
    """
    channels = x.shape[-1]
    crops = jax.vmap(
        lambda image, corner: lax.dynamic_slice(
            image,
            (corner[0], corner[1], jnp.zeros_like(corner[0])),
            (crop_height, crop_width, channels),
        )
    )(x, corners)
    return resize_bilinear(crops, x.shape[1], x.shape[2])


def teacher_target(
    image: Float[Array, "B H W 3"],
    mask: Float[Array, "B H W 1"],
    *,
    filtered: bool = True,
    radius: int = 9,
    filter_eps: float = 1e-3,
    eps: float = 1e-6,
) -> Float[Array, "B H W 1"]:
    """Turn the mask of the zoomed image into the student's target (steps 3 and 4).

    Args:
        image: zoomed RGB image ``[B, H, W, 3]`` in [0, 1].
        mask: fine mask predicted for it ``[B, H, W, 1]``.
        filtered: apply the guided filter; without it this is the "crop" ablation of Table 3.
        radius: radius of the guided filter in pixels.
        filter_eps: regularisation of the guided filter.
        eps: the target is clipped to ``[eps, 1 - eps]``.

    Returns:
        Target ``[B, H, W, 1]`` through which no gradient flows.
    """
    mask = lax.stop_gradient(mask)
    if filtered:
        mask = guided_filter(grey_guide(image), mask, radius, filter_eps)
    return lax.stop_gradient(jnp.clip(mask, eps, 1 - eps))


@dataclasses.dataclass(frozen=True)
class MultiscaleObjective(Objective[Network]):
    """An objective that can have trick 2.

    Attributes:
        crop_fraction: side of the zoomed region as a fraction of the image's; ``None`` trains
            without trick 2.
        filtered_teacher: sharpen the teacher's mask by the guided filter (trick 1 in trick 2).
    """

    crop_fraction: float | None = dataclasses.field(default=0.5, kw_only=True)
    filtered_teacher: bool = dataclasses.field(default=True, kw_only=True)

    def crop_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels of the zoomed region."""
        if self.crop_fraction is None:
            raise ValueError("an objective without crop_fraction zooms into no region")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction}")
        return max(1, round(height * self.crop_fraction)), max(1, round(width * self.crop_fraction))

    def teach(
        self,
        network: Network,
        frozen_params: Variables,
        variables: Variables,
        image: Float[Array, "B H W 3"],
        fine: Float[Array, "B H W 1"],
        keys: Shaped[PRNGKeyArray, " B"],
        eps: float,
        corners: Int[Array, "B 2"] | None = None,
    ) -> tuple[Scalar, Prediction]:
        """Compare the student's masks of regions with those that the teacher predicts for them.

        Args:
            network: the network; student and teacher are the same.
            frozen_params: parameters that are not trained.
            variables: ``{"params", "batch_stats"}`` of what is trained.
            image: RGB ``[B, H, W, 3]`` in [0, 1].
            fine: the student's mask of it ``[B, H, W, 1]``, through which gradients flow.
            keys: a random key an image, which decides the region.
            eps: see :func:`teacher_target`.
            corners: top-left pixels ``[B, 2]`` of the regions, in place of random ones.

        Returns:
            The term ``equivariance``, and the teacher's prediction for the zoomed regions.
        """
        height, width = image.shape[1:3]
        crop = self.crop_size(height, width)
        if corners is None:
            corners = random_corners(keys, height, width, *crop)
        zoomed = crop_and_zoom(image, corners, *crop)
        teacher = network.predict(frozen_params, variables, zoomed, train=True)
        target = teacher_target(
            zoomed,
            teacher.fine,
            filtered=self.filtered_teacher,
            radius=network.radius,
            filter_eps=network.filter_eps,
            eps=eps,
        )
        return equivariance(crop_and_zoom(fine, corners, *crop), target), teacher
