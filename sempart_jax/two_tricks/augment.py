"""Random scale, flip, colour jitter, grayscale and blur on the device.

Every function takes RGB images ``[..., H, W, 3]`` or masks in [0, 1] and returns them in [0, 1], is
pure, and works under ``jit``, ``vmap`` and ``pmap``. The definitions are those of torchvision's
``RandomHorizontalFlip``, ``ColorJitter``, ``RandomGrayscale`` and ``GaussianBlur`` for float
tensors. Random scale and blur are for SelfMask (arXiv 2203.12614), and off by default.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8, UInt32

from sempart_jax.kernels.blur import gaussian_blur
from sempart_jax.kernels.color_jitter import jitter, rgb_to_grayscale

# What is folded into an image's key for further random numbers. Five keys are split from it, and
# folding in 0 to 4 would give these again.
_SPLIT = 5
_SCALE_DRAW, _BLUR_DRAW = 5, 6

# A standard deviation in pixels at which all weight lies on the middle.
_NO_BLUR = 1e-3


def shrink(
    pixels: Float[Array, "H W C"],
    scale: float | Float[Array, ""],
    corner: Float[Array, "2"],
    around: Float[Array, " C"],
) -> Float[Array, "H W C"]:
    """Make an image smaller, by antialiased bilinear sampling, within a frame of its old size.

    Args:
        pixels: the image.
        scale: new height over old height, and new width over old width, in (0, 1].
        corner: rows and columns above and left of the smaller image; parts of pixels are allowed.
        around: what surrounds it. A pixel belongs to the smaller image if its centre does.

    Returns:
        Of the same shape.
    """
    frame = around[None, None]
    # The sampler gives 0 around the image.
    smaller = jax.image.scale_and_translate(
        pixels - frame, pixels.shape, (0, 1), jnp.stack([scale, scale]), corner, "bilinear"
    )
    return smaller + frame


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly images are changed; the defaults are the paper's (two tricks, Sec. 5.1).

    Attributes:
        flip_probability: of mirroring left and right.
        jitter_probability: of changing the colours.
        brightness: largest relative change of brightness, not negative.
        contrast: largest relative change of contrast, not negative.
        saturation: largest relative change of saturation, not negative.
        hue: largest shift of the hue in turns, in [0, 0.5].
        grayscale_probability: of turning to grey, with three equal channels.
        blur_probability: of blurring by a Gaussian.
        blur_sigma: smallest and largest standard deviation of the blur in pixels, positive.
        smallest_scale: smallest factor by which the sides may shrink, in (0, 1]; 1 leaves the size
            alone.

    Raises:
        ValueError: a probability or a strength is out of its range.
    """

    flip_probability: float = 0.5
    jitter_probability: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale_probability: float = 0.2
    blur_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    smallest_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        probabilities = (
            self.flip_probability,
            self.jitter_probability,
            self.grayscale_probability,
            self.blur_probability,
        )
        if not all(0 <= probability <= 1 for probability in probabilities):
            raise ValueError(
                f"flip, jitter, grayscale and blur probability leave [0, 1]: {probabilities}"
            )
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError(
                f"brightness {self.brightness}, contrast {self.contrast} and saturation "
                f"{self.saturation} must not be negative, hue {self.hue} must be in [0, 0.5]"
            )
        smallest, largest = self.blur_sigma
        if not 0 < smallest <= largest < math.inf:
            raise ValueError(
                f"blur_sigma {self.blur_sigma} must be the smallest and the largest, both positive"
            )
        if not 0 < self.smallest_scale <= 1:
            raise ValueError(f"smallest_scale {self.smallest_scale} must be in (0, 1]")


def augment(
    key: Key[Array, ""] | UInt32[Array, "2"],
    image: Float[Array, "H W 3"],
    augmentation: Augmentation,
) -> Float[Array, "H W 3"]:
    """Shrink, flip, jitter the colours of, turn to grey and blur one image, each at random.

    The factor of shrinking is uniform in ``[smallest_scale, 1]``, and the smaller image lies at a
    uniformly random place, surrounded by its mean colour; the authors of SelfMask put it into the
    top left corner, which the flip may make the right one. The jitter applies brightness, contrast,
    saturation and hue in a random order, with factors uniform in ``[max(0, 1 - x), 1 + x]`` and a
    hue shift uniform in ``[-hue, hue]``. The standard deviation of the blur is uniform in
    ``blur_sigma``.

    Args:
        key: decides everything that is random.
        image: RGB float32 in [0, 1].
        augmentation: probabilities and strengths.

    Returns:
        RGB float32 in [0, 1].
    """
    image = _move(key, image, augmentation)
    _, apply_key, order_key, factor_key, gray_key = jax.random.split(key, _SPLIT)
    strength = jnp.array(
        [
            augmentation.brightness,
            augmentation.contrast,
            augmentation.saturation,
            augmentation.hue,
        ],
        jnp.float32,
    )
    center = jnp.array([1.0, 1.0, 1.0, 0.0], jnp.float32)
    low = jnp.maximum(center - strength, jnp.array([0.0, 0.0, 0.0, -0.5], jnp.float32))
    factors = jax.random.uniform(factor_key, (4,), minval=low, maxval=center + strength)
    order = jax.random.permutation(order_key, 4)
    jittered = jitter(image, order, factors)
    apply_jitter = jax.random.bernoulli(apply_key, augmentation.jitter_probability)
    image = jnp.where(apply_jitter, jittered, image)

    gray = jnp.broadcast_to(rgb_to_grayscale(image), image.shape)
    to_gray = jax.random.bernoulli(gray_key, augmentation.grayscale_probability)
    image = jnp.where(to_gray, gray, image)

    if augmentation.blur_probability > 0:
        blur_key = jax.random.fold_in(key, _BLUR_DRAW)
        image = random_blur(blur_key, image, augmentation.blur_probability, augmentation.blur_sigma)
    return image


def random_blur(
    key: Key[Array, ""] | UInt32[Array, "2"],
    image: Float[Array, "H W 3"],
    probability: float | Float[Array, ""],
    sigma: tuple[float, float],
) -> Float[Array, "H W 3"]:
    """Blur an image with this probability by a Gaussian of uniformly random width."""
    smallest, largest = sigma
    apply_draw, sigma_draw = jax.random.uniform(key, (2,))
    drawn = smallest + (largest - smallest) * sigma_draw
    # So narrow a Gaussian leaves every pixel as it is, to the last bit. Choosing between the image
    # and the blurred one would compute the image twice on a CPU.
    drawn = jnp.where(apply_draw < probability, drawn, _NO_BLUR)
    blurred = gaussian_blur(image, drawn, radius=math.ceil(3 * largest))
    return jnp.clip(blurred, 0.0, 1.0)


def augment_mask(
    key: Key[Array, ""] | UInt32[Array, "2"],
    mask: UInt8[Array, "H W"] | Float[Array, "H W"],
    augmentation: Augmentation,
) -> Float[Array, "H W"]:
    """Do to a mask what :func:`augment` does to the geometry of its image: shrink and flip."""
    if mask.dtype == jnp.uint8:
        mask = mask.astype(jnp.float32) / 255.0
    return _move(key, mask[..., None], augmentation, around=jnp.zeros(1))[..., 0]


def augment_batch(
    keys: Key[Array, " B"] | UInt32[Array, "B 2"],
    images: UInt8[Array, "B H W 3"] | Float[Array, "B H W 3"],
    augmentation: Augmentation,
) -> Float[Array, "B H W 3"]:
    """Apply :func:`augment` to every image with a key of its own."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    return jax.vmap(lambda key, image: augment(key, image, augmentation))(keys, images)


def augment_mask_batch(
    keys: Key[Array, " B"] | UInt32[Array, "B 2"],
    masks: UInt8[Array, "B H W"] | Float[Array, "B H W"],
    augmentation: Augmentation,
) -> Float[Array, "B H W"]:
    """Apply :func:`augment_mask` to every mask with the key of its image."""
    return jax.vmap(lambda key, mask: augment_mask(key, mask, augmentation))(keys, masks)


def _move(
    key: Key[Array, ""] | UInt32[Array, "2"],
    pixels: Float[Array, "H W C"],
    augmentation: Augmentation,
    around: Float[Array, " C"] | None = None,
) -> Float[Array, "H W C"]:
    """Shrink and flip, surrounded by ``around`` or the mean colour."""
    if augmentation.smallest_scale < 1:
        draws = jax.random.uniform(jax.random.fold_in(key, _SCALE_DRAW), (3,))
        scale = augmentation.smallest_scale + (1 - augmentation.smallest_scale) * draws[0]
        corner = draws[1:] * (1 - scale) * jnp.array(pixels.shape[:2], jnp.float32)
        around = jnp.mean(pixels, axis=(0, 1)) if around is None else around
        pixels = jnp.clip(shrink(pixels, scale, corner, around), 0.0, 1.0)
    flip_key = jax.random.split(key, _SPLIT)[0]
    flipped = jax.random.bernoulli(flip_key, augmentation.flip_probability)
    return jnp.where(flipped, pixels[:, ::-1], pixels)
