"""The multi-crop augmentation of DINO on the device (arXiv 2104.14294, Sec. 3.1; 2006.09882).

Two large crops, the global ones, and some small ones, the local ones, are cut out of an image, and
each is flipped, jittered, turned to grey and blurred at random by :mod:`.augment`; the second
global crop may be solarized. Functions are pure and work under ``jit``, ``vmap`` and ``pmap``.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from sempart_jax.kernels.color_jitter import solarize
from sempart_jax.kernels.random_resized_crop import random_resized_crop
from sempart_jax.two_tricks.augment import Augmentation, augment, random_blur


@dataclasses.dataclass(frozen=True)
class MultiCrop:
    """How images are cropped and changed; the defaults are DINO's but for the sizes.

    Attributes:
        global_size: sides of the two global crops in pixels (in DINO 224).
        local_size: sides of the local crops in pixels (in DINO 96).
        local_crops: their number; 0 makes none.
        global_area: smallest and largest share of the image in a global crop, in (0, 1].
        local_area: smallest and largest share of the image in a local crop, in (0, 1].
        augmentation: what is done to every crop before it may be blurred, by its ``blur_sigma``; at
            the same sigma, a small crop loses more of what it shows than a large one.
        blur_probabilities: of blurring the first global, the second global, and a local crop.
        solarize_probability: of inverting what is bright in the second global crop.
    """

    global_size: int = 96
    local_size: int = 48
    local_crops: int = 6
    global_area: tuple[float, float] = (0.4, 1.0)
    local_area: tuple[float, float] = (0.05, 0.4)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    blur_probabilities: tuple[float, float, float] = (1.0, 0.1, 0.5)
    solarize_probability: float = 0.2


class Crops(NamedTuple):
    """Crops of an image, or of a batch of ``B``: all images of one crop lie together.

    Attributes:
        global_: ``[2, G, G, 3]`` or ``[2, B, G, G, 3]``, RGB in [0, 1].
        local: ``[n, L, L, 3]`` or ``[n, B, L, L, 3]``, RGB in [0, 1].
    """

    global_: Float[Array, "2 *B G G 3"]
    local: Float[Array, "n *B L L 3"]


def multi_crop(
    key: Key[Array, ""] | UInt32[Array, "2"],
    image: Float[Array, "H W 3"],
    settings: MultiCrop,
) -> Crops:
    """Cut crops out of an image and change each of them at random.

    In this order, as in the code that DINO was released with: crop, flip, colour jitter,
    grayscale, blur, and for the second global crop solarizing.

    Args:
        key: decides everything that is random; a crop depends on it and on the crop's number
            alone, the global ones being 0 and 1, the local ones the next.
        image: RGB in [0, 1], of any size.
        settings: sizes, probabilities and strengths.

    Returns:
        ``[2, G, G, 3]`` and ``[n, L, L, 3]``.
    """
    augmentation = settings.augmentation

    def crop(
        number: Int[Array, ""],
        blur_probability: Float[Array, ""],
        solarize_probability: Float[Array, ""],
        *,
        size: int,
        area: tuple[float, float],
    ) -> Float[Array, "size size 3"]:
        keys = jax.random.split(jax.random.fold_in(key, number), 4)
        done = random_resized_crop(keys[0], image, size, area)
        done = augment(keys[1], done, augmentation)
        done = random_blur(keys[2], done, blur_probability, augmentation.blur_sigma)
        inverted = jax.random.bernoulli(keys[3], solarize_probability)
        return jnp.where(inverted, solarize(done), done)

    count = settings.local_crops
    blur = jnp.array(settings.blur_probabilities, jnp.float32)
    solarizing = jnp.array([0.0, settings.solarize_probability], jnp.float32)
    crop_global = functools.partial(crop, size=settings.global_size, area=settings.global_area)
    crop_local = functools.partial(crop, size=settings.local_size, area=settings.local_area)
    return Crops(
        jax.vmap(crop_global)(jnp.arange(2), blur[:2], solarizing),
        jax.vmap(crop_local)(jnp.arange(2, 2 + count), jnp.full(count, blur[2]), jnp.zeros(count)),
    )


def multi_crop_batch(
    keys: Key[Array, " B"] | UInt32[Array, "B 2"],
    images: UInt8[Array, "B H W 3"] | Float[Array, "B H W 3"],
    settings: MultiCrop,
) -> Crops:
    """Apply :func:`multi_crop` to every image with a key of its own."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    return jax.vmap(lambda key, image: multi_crop(key, image, settings), out_axes=1)(keys, images)
