"""Colour jitter, grayscale and solarizing on the device, as torchvision defines them for floats.

Every function takes RGB images ``[..., H, W, 3]`` in [0, 1] and returns them in [0, 1], is pure,
and works under ``jit``, ``vmap`` and ``pmap``. As in torchvision's ``ColorJitter`` and
``RandomGrayscale``, values are clipped to [0, 1] after every operation.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

LUMA = (0.2989, 0.587, 0.114)
"""Weights of R, G and B in grey; torchvision's, whose sum is 0.9999."""

# The operations of the jitter, by their number in its order.
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
        # The remainder by a floor: jnp.mod takes ten times as long on a CPU.
        k = offset + sixths
        k = k - 6.0 * jnp.floor(k / 6.0)
        return value - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def solarize(image: Float[Array, "*B H W 3"]) -> Float[Array, "*B H W 3"]:
    """Invert the values that are 0.5 or more, as Pillow does with bytes of 128 and more."""
    return jnp.where(image >= 0.5, 1.0 - image, image)


def jitter(
    image: Float[Array, "H W 3"], order: Int[Array, "4"], factors: Float[Array, "4"]
) -> Float[Array, "H W 3"]:
    """Apply brightness (0), contrast (1), saturation (2) and hue (3) in the given order.

    A branch for every place in the order would, under ``vmap``, compute all four operations at
    all four places. Three of them are one formula, so the image passes three places before the
    hue and three after it, of which those that are not its own leave it exactly as it is.

    Args:
        image: RGB in [0, 1].
        order: the four numbers, the first operation first.
        factors: of brightness, contrast and saturation, not negative, and the hue's shift in
            turns.

    Returns:
        RGB in [0, 1].
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
    # Else a CPU computes all that came before again, pixel by pixel, for the mean.
    image = lax.optimization_barrier(image)
    gray = rgb_to_grayscale(image)
    # f x + (1 - f) t with t = 0, mean(gray(x)) or gray(x); at f = 1 it is x to the last bit
    toward_mean = jnp.where(operation == _CONTRAST, 1 - factor, 0.0)
    toward_gray = jnp.where(operation == _SATURATION, 1 - factor, 0.0)
    return jnp.clip(factor * image + toward_mean * jnp.mean(gray) + toward_gray * gray, 0.0, 1.0)
