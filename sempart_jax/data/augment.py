"""Random flip, colour jitter and grayscale on the device, as torchvision defines them.

Every function takes RGB images ``[..., H, W, 3]`` in [0, 1] and returns them in [0, 1], is pure,
and works under ``jit``, ``vmap`` and ``pmap``. The definitions are those of torchvision's
``RandomHorizontalFlip``, ``ColorJitter`` and ``RandomGrayscale`` for float tensors, which clip to
[0, 1] after every operation.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8, UInt32

LUMA = (0.2989, 0.587, 0.114)
"""Weights of R, G and B in grey; torchvision's, whose sum is 0.9999."""

# The operations of the jitter, by their number in the random order.
_CONTRAST, _SATURATION, _HUE = 1, 2, 3


def rgb_to_grayscale(image: Float[Array, "*B H W 3"]) -> Float[Array, "*B H W 1"]:
    """Return the grey image, ``0.2989 R + 0.587 G + 0.114 B``.

    Args:
        image: RGB in [0, 1].

    Returns:
        One channel in [0, 1].
    """
    red, green, blue = jnp.split(image, 3, axis=-1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def adjust_brightness(
    image: Float[Array, "*B H W 3"], factor: float | Float[Array, ""]
) -> Float[Array, "*B H W 3"]:
    """Multiply by ``factor`` and clip to [0, 1].

    Args:
        image: RGB in [0, 1].
        factor: not negative; 0 gives black, 1 the image.

    Returns:
        RGB in [0, 1].
    """
    return jnp.clip(factor * image, 0.0, 1.0)


def adjust_contrast(
    image: Float[Array, "*B H W 3"], factor: float | Float[Array, ""]
) -> Float[Array, "*B H W 3"]:
    """Blend with the mean of the grey image, one mean an image, and clip to [0, 1].

    Args:
        image: RGB in [0, 1].
        factor: not negative; 0 gives even grey, 1 the image.

    Returns:
        RGB in [0, 1].
    """
    mean = jnp.mean(rgb_to_grayscale(image), axis=(-3, -2, -1), keepdims=True)
    # f x + (1 - f) mean(gray(x))
    return jnp.clip(factor * image + (1 - factor) * mean, 0.0, 1.0)


def adjust_saturation(
    image: Float[Array, "*B H W 3"], factor: float | Float[Array, ""]
) -> Float[Array, "*B H W 3"]:
    """Blend with the grey image and clip to [0, 1].

    Args:
        image: RGB in [0, 1].
        factor: not negative; 0 gives the grey image, 1 the image.

    Returns:
        RGB in [0, 1].
    """
    # f x + (1 - f) gray(x)
    return jnp.clip(factor * image + (1 - factor) * rgb_to_grayscale(image), 0.0, 1.0)


def adjust_hue(
    image: Float[Array, "*B H W 3"], shift: float | Float[Array, ""]
) -> Float[Array, "*B H W 3"]:
    """Turn the hue by ``shift`` of the colour circle, with HSV value and saturation kept.

    Args:
        image: RGB in [0, 1].
        shift: turns, in [-0.5, 0.5]; 1/3 makes red green.

    Returns:
        RGB in [0, 1].
    """
    red, green, blue = (image[..., channel] for channel in range(3))
    value = jnp.max(image, axis=-1)
    chroma = value - jnp.min(image, axis=-1)
    divisor = jnp.where(chroma == 0, 1.0, chroma)
    # Hue in sixths of a turn, from the channel that is largest, red before green before blue. The
    # channels are compared with each other: a compiler that computes one of them twice, rounded
    # differently, may leave none of them equal to the maximum.
    sixths = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / divisor,
        jnp.where(green >= blue, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    sixths = sixths + 6.0 * shift

    def channel(offset: float) -> Float[Array, "*B H W"]:
        # v - c max(0, min(k, 4 - k, 1)) with k = (n + 6 h) mod 6 and n = 5, 3, 1 for R, G, B
        k = jnp.mod(offset + sixths, 6.0)
        return value - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


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

    def __post_init__(self) -> None:
        """Check the ranges."""
        probabilities = (
            self.flip_probability,
            self.jitter_probability,
            self.grayscale_probability,
        )
        if not all(0 <= probability <= 1 for probability in probabilities):
            raise ValueError(
                f"flip, jitter and grayscale probability leave [0, 1]: {probabilities}"
            )
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError(
                f"brightness {self.brightness}, contrast {self.contrast} and saturation "
                f"{self.saturation} must not be negative, hue {self.hue} must be in [0, 0.5]"
            )


def augment(
    key: Key[Array, ""] | UInt32[Array, "2"],
    image: Float[Array, "H W 3"],
    augmentation: Augmentation,
) -> Float[Array, "H W 3"]:
    """Flip, jitter the colours of and turn to grey one image, each at random.

    The jitter applies brightness, contrast, saturation and hue in a random order, with factors
    uniform in ``[max(0, 1 - x), 1 + x]`` and a hue shift uniform in ``[-hue, hue]``.

    Args:
        key: decides everything that is random.
        image: RGB float32 in [0, 1].
        augmentation: probabilities and strengths.

    Returns:
        RGB float32 in [0, 1].
    """
    flip_key, apply_key, order_key, factor_key, gray_key = jax.random.split(key, 5)
    flipped = jax.random.bernoulli(flip_key, augmentation.flip_probability)
    image = jnp.where(flipped, image[:, ::-1], image)

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
    jittered = _jitter(image, order, factors)
    apply_jitter = jax.random.bernoulli(apply_key, augmentation.jitter_probability)
    image = jnp.where(apply_jitter, jittered, image)

    gray = jnp.broadcast_to(rgb_to_grayscale(image), image.shape)
    to_gray = jax.random.bernoulli(gray_key, augmentation.grayscale_probability)
    return jnp.where(to_gray, gray, image)


def augment_batch(
    keys: Key[Array, " B"] | UInt32[Array, "B 2"],
    images: UInt8[Array, "B H W 3"] | Float[Array, "B H W 3"],
    augmentation: Augmentation,
) -> Float[Array, "B H W 3"]:
    """Apply :func:`augment` to every image with a key of its own.

    Args:
        keys: one an image; what happens to an image depends on its key, not on its place.
        images: RGB, uint8 in 0..255 or float32 in [0, 1].
        augmentation: probabilities and strengths.

    Returns:
        RGB float32 in [0, 1].
    """
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    return jax.vmap(lambda key, image: augment(key, image, augmentation))(keys, images)


def _jitter(
    image: Float[Array, "H W 3"], order: Int[Array, "4"], factors: Float[Array, "4"]
) -> Float[Array, "H W 3"]:
    """Apply brightness (0), contrast (1), saturation (2) and hue (3) in the given order.

    A branch for every place in the order would, under ``vmap``, compute all four operations at
    all four places. Three of them are one formula, so the image passes three places before the
    hue and three after it, of which those that are not its own leave it exactly as it is.
    """
    hue_place = jnp.argmax(order == _HUE)
    for place in range(3):
        image = _blend(image, order[place], factors, place < hue_place)
    image = adjust_hue(image, factors[_HUE])
    for place in range(1, 4):
        image = _blend(image, order[place], factors, place > hue_place)
    return image


def _blend(
    image: Float[Array, "H W 3"],
    operation: Int[Array, ""],
    factors: Float[Array, "4"],
    apply: Bool[Array, ""],
) -> Float[Array, "H W 3"]:
    """Apply brightness, contrast or saturation, whichever ``operation`` says, or nothing."""
    factor = jnp.where(apply, factors[operation], 1.0)
    gray = rgb_to_grayscale(image)
    # f x + (1 - f) t with t = 0, mean(gray(x)) or gray(x); at f = 1 it is x to the last bit
    toward_mean = jnp.where(operation == _CONTRAST, 1 - factor, 0.0)
    toward_gray = jnp.where(operation == _SATURATION, 1 - factor, 0.0)
    return jnp.clip(factor * image + toward_mean * jnp.mean(gray) + toward_gray * gray, 0.0, 1.0)
