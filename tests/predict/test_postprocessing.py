"""The post-processings by name."""

import logging

import jax
import numpy as np
import pytest

from sempart_jax.baselines.bilateral import bilateral_solver
from sempart_jax.data.image_sizes import resize
from sempart_jax.kernels.host_guided_filter import guided, guided_radius
from sempart_jax.predict import postprocessing
from sempart_jax.predict.postprocessing import POSTPROCESSINGS, postprocess
from tests.kernels.test_host_guided_filter import ROUNDING, reference_guided, scene


def test_no_image_size_is_compiled(caplog):
    def compilations():
        return sum("Compiling" in record.getMessage() for record in caplog.records)

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for height in (20, 21, 22):
            image, mask = scene(height, 30)
            for name in POSTPROCESSINGS:
                postprocess(name, image, mask)
        assert compilations() == 0
        jax.jit(lambda x: x * 1.75)(np.ones(3, np.float32))
        assert compilations() > 0


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", POSTPROCESSINGS)
def test_constant_masks_are_kept(name, constant):
    image, _ = scene(33, 47)
    mask = np.full((33, 47), constant, np.float32)
    np.testing.assert_allclose(postprocess(name, image, mask), mask, rtol=0, atol=2e-7)


def test_names():
    assert list(POSTPROCESSINGS) == ["none", "guided", "bilateral", "bilateral_16_16_8"]
    with pytest.raises(TypeError):
        POSTPROCESSINGS["none"] = None
    with pytest.raises(ValueError, match="'sharp': choose from none, guided, bilateral"):
        postprocess("sharp", *scene(5, 6))


def test_each_name_is_its_method():
    image, mask = scene(50, 64)
    expected = {
        "none": mask,
        "guided": reference_guided(image, mask, guided_radius(50, 64)),
        "bilateral": bilateral_solver(image, mask, 24, 4, 4),
        "bilateral_16_16_8": bilateral_solver(image, mask, 16, 16, 8),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            postprocess(name, image, mask), np.clip(values, 0, 1), rtol=0, atol=ROUNDING
        )
    distances = [np.abs(a - b).max() for a in expected.values() for b in expected.values()]
    assert np.count_nonzero(np.array(distances) > 1e-3) == 12


@pytest.mark.parametrize("name", POSTPROCESSINGS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_result_is_a_new_float32_array_in_range(name, dtype):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mask = (image[..., 1] > 127).astype(dtype)
    mask[0, 0] = 1 + 5e-4
    before = mask.copy()
    refined = postprocess(name, image, mask)
    assert refined.dtype == np.float32
    assert refined.shape == mask.shape
    assert refined.min() >= 0
    assert refined.max() <= 1
    refined[:] = 0.5
    np.testing.assert_array_equal(mask, before)
    if name == "guided":
        assert guided(image, mask).min() < -0.01  # what is clipped


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4)), r"\(5, 4\).*\(4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 1)), r"\(4, 5, 1\).*\(4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), bool), r"bool.*\(4, 5\)"),
        (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5)), r"image.*float32.*\(4, 5, 3\)"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5)), r"image.*uint8.*\(4, 5\)"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5)), r"image.*\(0, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), np.nan), "from nan to nan"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 255.0), r"255.0.*divide"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), -0.1), r"-0.1.*\[0, 1\]"),
    ],
)
def test_wrong_arrays_are_named(image, mask, message):
    with pytest.raises(ValueError, match=message):
        postprocess("guided", image, mask)


def test_large_images_are_reduced_for_the_bilateral_solver(monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    mask = rng.random((40, 60)).astype(np.float32)
    monkeypatch.setattr(postprocessing, "BILATERAL_PIXELS", 600)
    refined = postprocess("bilateral", image, mask)
    small = bilateral_solver(resize(image, 20, 30), resize(mask, 20, 30), 24, 4, 4)
    expected = np.clip(resize(small.astype(np.float32), 40, 60), 0, 1)
    np.testing.assert_allclose(refined, expected, atol=1e-6)
    np.testing.assert_array_equal(postprocess("none", image, mask), mask)
