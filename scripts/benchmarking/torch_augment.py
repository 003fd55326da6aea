"""The augmentation of a training step in PyTorch: flip, colour jitter, grayscale.

As torchvision does it to float tensors, image by image.
"""

import torch
from torch import Tensor

from sempart_jax.two_tricks.augment import Augmentation

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def grayscale(image: Tensor) -> Tensor:
    """Luma ``[1, H, W]`` of an RGB image ``[3, H, W]``."""
    red, green, blue = image
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[None]


def adjust_hue(image: Tensor, shift: float) -> Tensor:
    """Turn the hue by ``shift`` of the colour circle."""
    red, green, blue = image
    value = image.amax(0)
    chroma = value - image.amin(0)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    sixths = torch.where(
        (red >= green) & (red >= blue),
        (green - blue) / divisor,
        torch.where(green >= blue, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    k = torch.stack([offset + sixths + 6 * shift for offset in (5.0, 3.0, 1.0)]).remainder(6)
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def jitter(image: Tensor, order: list[int], factors: list[float]) -> Tensor:
    """Apply brightness, contrast, saturation and hue in the given order to ``[3, H, W]``."""
    for operation in order:
        factor = factors[operation]
        if operation == HUE:
            image = adjust_hue(image, factor)
            continue
        toward: Tensor | float = 0.0
        if operation == CONTRAST:
            toward = grayscale(image).mean()
        elif operation == SATURATION:
            toward = grayscale(image)
        image = (factor * image + (1 - factor) * toward).clamp(0, 1)
    return image


def augment_batch(images: Tensor, augmentation: Augmentation) -> Tensor:
    """Change every image ``[B, 3, H, W]`` in [0, 1] at random."""
    return torch.stack([_augment(image, augmentation) for image in images])


def _augment(image: Tensor, augmentation: Augmentation) -> Tensor:
    flip, colours, gray = torch.rand(3).tolist()
    if flip < augmentation.flip_probability:
        image = image.flip(-1)
    if colours < augmentation.jitter_probability:
        spread = [augmentation.brightness, augmentation.contrast, augmentation.saturation]
        draws = (2 * torch.rand(4) - 1).tolist()
        factors = [1 + s * draw for s, draw in zip(spread, draws[:3], strict=True)]
        image = jitter(image, torch.randperm(4).tolist(), [*factors, augmentation.hue * draws[3]])
    if gray < augmentation.grayscale_probability:
        image = grayscale(image).expand(3, -1, -1)
    return image
