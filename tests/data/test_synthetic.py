import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sempart_jax.data import synthetic
from sempart_jax.data.folder import find_pairs
from sempart_jax.data.synthetic import (
    MIN_COLOR_DISTANCE,
    SHAPES,
    TEXTURES,
    band_limited_noise,
    distinct_color,
    main,
    outline,
    synthetic_scene,
    texture,
    write_scenes,
)


def scene(index, seed=0, size=96):
    return synthetic_scene(np.random.default_rng([seed, index]), size)


def test_seed_and_index_decide_the_scene():
    image, mask = scene(3)
    for again, expected in zip(scene(3), (image, mask), strict=True):
        np.testing.assert_array_equal(again, expected)
    for other_image, other_mask in (scene(4), scene(3, seed=1)):
        assert (image != other_image).mean() > 0.5
        assert (mask != other_mask).mean() > 0.01


@given(size=st.integers(32, 130), index=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_shape_type_and_foreground_fraction(size, index):
    image, mask = scene(index, size=size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == bool
    assert 0.08 <= mask.mean() <= 0.40


def test_object_and_ground_differ_in_color_and_both_have_texture():
    for index in range(30):
        image, mask = scene(index)
        pixels = image / 255
        inside, outside = pixels[mask], pixels[~mask]
        assert np.linalg.norm(inside.mean(0) - outside.mean(0)) > 0.2
        # Sensor noise alone has a standard deviation of 0.02.
        assert inside.std(axis=0).max() > 0.04
        assert outside.std(axis=0).max() > 0.04


def intersection_over_union(first, second):
    return (first & second).sum() / (first | second).sum()


def test_no_threshold_of_brightness_gives_the_mask():
    best = []
    for index in range(30):
        image, mask = scene(index)
        brightness = image.mean(axis=-1)
        candidates = [brightness > level for level in np.percentile(brightness, range(2, 100, 4))]
        best.append(
            max(
                max(intersection_over_union(side, mask), intersection_over_union(~side, mask))
                for side in candidates
            )
        )
    assert np.mean(best) < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_outline_has_the_wanted_area_and_place_and_soft_edges(shape):
    # Pixel i reaches from i to i + 1.
    positions = np.arange(128) + 0.5
    for seed in range(5):
        coverage = outline(np.random.default_rng(seed), shape, 128, 1500.0, np.array([60.0, 70.0]))
        assert (coverage.min(), coverage.max()) == (0.0, 1.0)
        np.testing.assert_allclose(coverage.sum(), 1500.0, rtol=0.02)
        # Of a circle's 137 pixels of outline nearly all are cut by it.
        assert 80 < ((coverage > 0) & (coverage < 1)).sum() < 400
        center = [coverage.sum(axis) @ positions / coverage.sum() for axis in (1, 0)]
        np.testing.assert_allclose(center, [60, 70], atol=0.1 if shape == "ellipse" else 10)


@pytest.mark.parametrize("wavelength", [4.0, 16.0])
def test_noise_lies_in_its_band(wavelength):
    noise = band_limited_noise(np.random.default_rng(0), 128, wavelength)
    assert np.abs(noise).max() <= 1.0
    power = np.abs(np.fft.fft2(noise - noise.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
    octaves = np.abs(np.log2(np.maximum(frequency, 1e-6) * wavelength))
    assert power[octaves < 1].sum() / power.sum() > 0.8


@pytest.mark.parametrize("kind", TEXTURES)
def test_texture_is_balanced_and_has_contrast(kind):
    for seed in range(5):
        pattern = texture(np.random.default_rng(seed), kind, 96)
        assert np.abs(pattern).max() <= 1.0
        assert abs(pattern.mean()) < 0.1
        assert pattern.std() > 0.3


def test_colors_keep_their_distance_but_hardly_differ_in_brightness():
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(500):
        ground = generator.uniform(0.2, 0.8, 3)
        color = distinct_color(generator, ground)
        assert np.linalg.norm(color - ground) >= MIN_COLOR_DISTANCE
        assert ((color >= 0.1) & (color <= 0.9)).all()
        differences.append(color.mean() - ground.mean())
    # Independent colours of the two ranges: sqrt((0.6^2 + 0.7^2) / 12 / 3) = 0.154.
    assert np.std(differences) < 0.11


def test_mask_is_where_an_object_covers_half_a_pixel(monkeypatch):
    levels = np.array([0.0, 0.4, 0.6, 1.0])
    coverage = np.repeat(np.repeat(levels, 16)[None], 64, axis=0)
    monkeypatch.setattr(synthetic, "coverages", lambda rng, size: [coverage])
    image, mask = scene(0, size=64)
    np.testing.assert_array_equal(mask, coverage > 0.5)
    columns = image.reshape(64, 4, 16, 3).mean(axis=(0, 2))
    # The colour goes from ground to object as the coverage does.
    path = (columns - columns[0]) @ (columns[3] - columns[0])
    np.testing.assert_allclose(path / path[3], levels, atol=0.12)


def test_written_files_hold_the_scenes(tmp_path):
    write_scenes(tmp_path, 3, size=40, seed=5)
    names = ["scene_0000.png", "scene_0001.png", "scene_0002.png"]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == names
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == names
    for index, name in enumerate(names):
        image, mask = scene(index, seed=5, size=40)
        with Image.open(tmp_path / "images" / name) as file:
            assert file.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(file), image)
        with Image.open(tmp_path / "masks" / name) as file:
            assert file.mode == "L"
            np.testing.assert_array_equal(np.asarray(file), np.where(mask, 255, 0))


def test_command_line_writes_what_the_function_writes(tmp_path):
    write_scenes(tmp_path / "function", 2, size=32, seed=9)
    main(["--out", str(tmp_path / "line"), "--count", "2", "--size", "32", "--seed", "9"])
    pairs = find_pairs(tmp_path / "line/images", tmp_path / "line/masks")
    assert len(pairs) == 2
    for path in (path for pair in pairs for path in pair):
        twin = tmp_path / "function" / path.relative_to(tmp_path / "line")
        assert path.read_bytes() == twin.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--count", "0"], "count must be at least 1, got 0"),
        (["--seed", "-1"], "seed must not be negative, got -1"),
        (["--size", "8"], "size must be at least 32 pixels to hold textured objects, got 8"),
    ],
)
def test_wrong_arguments_are_told_and_leave_no_files(tmp_path, capsys, wrong, message):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "scenes"), *wrong])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "scenes").exists()
