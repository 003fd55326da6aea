"""Synthetic scenes with exact masks: textured objects on textured ground.

They are for demonstrations and tests, need nothing but NumPy (and Pillow to be written), and a
seed and an index decide each scene.

    python -m sempart_jax.data.synthetic --out DIR --count 64 --size 96 --seed 0

writes ``DIR/images/scene_0000.png`` and ``DIR/masks/scene_0000.png`` and so on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from tqdm import tqdm

from sempart_jax.host.command_line import expand_home

TEXTURES = ("noise", "stripes", "checkers")
SHAPES = ("ellipse", "polygon", "blob")

SUPERSAMPLING = 4
"""Points per pixel and axis at which an object's outline is tested."""

FOREGROUND_RANGE = (0.08, 0.40)
"""Fraction of the image that all objects together cover."""

MIN_COLOR_DISTANCE = 0.35
"""Least Euclidean distance in RGB [0, 1] between the mean colours of an object and the ground."""


def band_limited_noise(
    rng: np.random.Generator, size: int, wavelength: float
) -> Float[np.ndarray, "H W"]:
    """Draw isotropic Gaussian noise of one octave about ``wavelength`` pixels, in [-1, 1]."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    # A log-normal band, an octave wide at half its height.
    band = np.exp(-2.0 * np.log2(np.maximum(radius, 1e-6) * wavelength) ** 2)
    noise = np.fft.irfft2(spectrum * band, s=(size, size))
    return np.clip(noise / (2.0 * noise.std()), -1.0, 1.0)


def texture(rng: np.random.Generator, kind: str, size: int) -> Float[np.ndarray, "H W"]:
    """Draw one of ``TEXTURES`` in [-1, 1], with mean about 0."""
    if kind == "noise":
        return band_limited_noise(rng, size, wavelength=rng.uniform(3.0, 10.0))
    angle = rng.uniform(0.0, np.pi)
    wavelength = rng.uniform(4.0, 9.0)
    rows, columns = np.indices((size, size))
    # A little warp, so that no stripe is ruler-straight.
    warp = 1.5 * band_limited_noise(rng, size, wavelength=size / 3)
    u = (np.cos(angle) * columns + np.sin(angle) * rows + warp) * 2.0 * np.pi / wavelength
    v = (np.cos(angle) * rows - np.sin(angle) * columns + warp) * 2.0 * np.pi / wavelength
    pattern = np.sin(u) if kind == "stripes" else np.sin(u) * np.sin(v)
    return np.tanh(2.0 * pattern)


def paint(
    rng: np.random.Generator, size: int, color: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "H W 3"]:
    """Fill a square with a texture whose mean colour is about ``color``, with coarse mottling."""
    contrast = rng.uniform(0.08, 0.22)
    # Mostly light and dark of one colour, a little towards another hue.
    direction = np.ones(3) + rng.normal(0.0, 0.5, 3)
    direction /= np.sqrt((direction**2).mean())
    fine = texture(rng, str(rng.choice(TEXTURES)), size)[..., None] * direction * contrast
    mottling = band_limited_noise(rng, size, wavelength=size / 2)[..., None] * 0.05
    return color + fine + mottling


def outline(
    rng: np.random.Generator, shape: str, size: int, area: float, center: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "H W"]:
    """Draw how much of each pixel one of ``SHAPES`` covers; tilt, stretch and outline are random.

    ``area`` is that of the shape in pixels, before the border cuts it, ``center`` row and column.
    """
    points = (np.arange(size * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    down, right = points[:, None] - center[0], points[None, :] - center[1]
    tilt, stretch = rng.uniform(0.0, np.pi), rng.uniform(0.65, 1.0)
    along = (np.cos(tilt) * right + np.sin(tilt) * down) * np.sqrt(stretch)
    across = (np.cos(tilt) * down - np.sin(tilt) * right) / np.sqrt(stretch)
    angle = np.arctan2(across, along)
    # Every shape is star-shaped about its centre: inside where the distance is below r(angle).
    angles = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    if shape == "ellipse":
        radius = np.ones_like(angles)
    elif shape == "polygon":
        corners = int(rng.integers(3, 8))
        # The edges of a regular polygon: r = 1 / cos(angle to the middle of the edge).
        sector = 2.0 * np.pi / corners
        radius = 1.0 / np.cos(np.mod(angles, sector) - sector / 2)
    else:
        radius = np.ones_like(angles)
        for frequency in range(2, 6):
            amplitude = rng.uniform(0.0, 0.5 / frequency)
            radius += amplitude * np.cos(frequency * angles + rng.uniform(0.0, 2.0 * np.pi))
    # area = 1/2 integral of r^2 over the angle
    radius *= np.sqrt(area / (np.pi * (radius**2).mean()))
    inside = np.hypot(along, across) < np.interp(angle, angles, radius, period=2.0 * np.pi)
    return inside.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(axis=(1, 3))


def distinct_color(
    rng: np.random.Generator, ground: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """Draw a colour of a lightness near the ground's but at ``MIN_COLOR_DISTANCE`` or more from it.

    Lightness alone then does not tell object from ground.
    """
    while True:
        color = rng.uniform(0.15, 0.85, 3)
        # Half of the difference in the grey value is taken away.
        color = np.clip(color - 0.5 * (color.mean() - ground.mean()), 0.1, 0.9)
        if np.linalg.norm(color - ground) >= MIN_COLOR_DISTANCE:
            return color


def coverages(rng: np.random.Generator, size: int) -> list[Float[np.ndarray, "H W"]]:
    """Place one to three objects, the first to the back, so that ``FOREGROUND_RANGE`` holds."""
    while True:
        count = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
        fraction = rng.uniform(0.12, 0.38)
        shares = rng.dirichlet(np.full(count, 8.0)) * fraction * size**2
        layers = [
            outline(
                rng, str(rng.choice(SHAPES)), size, area, rng.uniform(0.25 * size, 0.75 * size, 2)
            )
            for area in shares
        ]
        mask = np.maximum.reduce(layers) >= 0.5
        if FOREGROUND_RANGE[0] <= mask.mean() <= FOREGROUND_RANGE[1]:
            return layers


def synthetic_scene(
    rng: np.random.Generator, size: int = 96
) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """Draw one scene: one to three textured objects on a textured ground.

    Ground and objects have noise, stripes or chequers in random colours; one shading gradient lies
    over all, sensor noise over that. Edges are soft in the image; the mask is where the objects
    cover at least half of a pixel.

    Args:
        rng: source of randomness; its state decides the scene.
        size: side of the scene in pixels, at least 32.

    Returns:
        The image, uint8 ``[size, size, 3]``, and the mask, bool ``[size, size]``, True on objects,
        8% to 40% of the pixels.

    Raises:
        ValueError: ``size`` is below 32, where textures have no room.
    """
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels to hold textured objects, got {size}")
    ground = rng.uniform(0.2, 0.8, 3)
    image = paint(rng, size, ground)
    mask = np.zeros((size, size), bool)
    # The objects of one scene are of one kind of colour.
    color = distinct_color(rng, ground)
    for coverage in coverages(rng, size):
        layer = paint(rng, size, color + rng.normal(0.0, 0.03, 3))
        # Alpha compositing over what lies behind.
        image += coverage[..., None] * (layer - image)
        mask |= coverage >= 0.5
    rows, columns = np.indices((size, size)) / (size - 1) - 0.5
    angle, slope = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.1, 0.4)
    image *= (1.0 + slope * (np.cos(angle) * columns + np.sin(angle) * rows))[..., None]
    image += rng.normal(0.0, 0.02, image.shape)
    return np.round(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8), mask


def write_scenes(folder: Path | str, count: int, size: int = 96, seed: int = 0) -> None:
    """Write scenes as PNG files ``images/scene_0000.png`` and ``masks/scene_0000.png``.

    Scene i depends on ``seed`` and i alone, so that a longer set begins with the shorter one. Masks
    are 255 on objects. A ValueError tells of a number that is too small.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    images, masks = Path(folder) / "images", Path(folder) / "masks"
    for index in tqdm(range(count), unit="scene"):
        image, mask = synthetic_scene(np.random.default_rng([seed, index]), size)
        if index == 0:
            images.mkdir(parents=True, exist_ok=True)
            masks.mkdir(parents=True, exist_ok=True)
        name = f"scene_{index:04d}.png"
        Image.fromarray(image).save(images / name)
        Image.fromarray(mask.astype(np.uint8) * 255).save(masks / name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write scenes as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m sempart_jax.data.synthetic",
        description="Write synthetic scenes with exact masks as images/ and masks/.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=64, help="number of scenes (default 64)")
    parser.add_argument("--size", type=int, default=96, help="side in pixels (default 96)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    options = parser.parse_args(expand_home(arguments))
    try:
        write_scenes(options.out, options.count, options.size, options.seed)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
