"""What a network predicts for batches of one shape, and for images of any."""

import logging

import jax
import numpy as np
import pytest

from sempart_jax.predict.network_step import NetworkStep
from sempart_jax.two_tricks.train_step import MASK_NAMES, replicate
from tests.two_tricks.small_network import NETWORK, seeded_variables


@pytest.fixture(scope="module")
def network():
    """Backbone parameters and head variables on the host."""
    return seeded_variables()


@pytest.fixture(scope="module")
def step(network):
    return NetworkStep(NETWORK, replicate(network[0]))


@pytest.fixture(scope="module")
def variables(network):
    return replicate(network[1])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (11, 8, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(network, images):
    """Masks of each image by itself, on one device, without padding."""

    @jax.jit
    def predict(params, variables, image):
        prediction = NETWORK.predict(params, variables, image[None])
        refined = NETWORK.refine(image[None], prediction.fine)
        return prediction.coarse[0, ..., 0], prediction.fine[0, ..., 0], refined[0, ..., 0]

    masks = [predict(*network, image.astype(np.float32) / 255) for image in images]
    # Images must be told apart for a comparison to mean anything.
    assert np.abs(masks[0][1] - masks[1][1]).max() > 1e-3
    return {name: np.stack([m[i] for m in masks]) for i, name in enumerate(MASK_NAMES)}


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (7, 1), (8, 8), (11, 16), (11, 9)])
def test_masks_are_those_of_each_image_alone(step, variables, images, expected, count, batch_size):
    masks = step.start(variables, images[:count], batch_size)()
    assert tuple(masks) == MASK_NAMES
    for name in MASK_NAMES:
        assert masks[name].shape == (count, *((4, 6) if name == "coarse" else (8, 12)))
        np.testing.assert_allclose(masks[name], expected[name][:count], atol=1e-5)


def test_bytes_and_floats_give_the_same_masks(step, variables, images):
    eight = images[:8]
    assert len(np.unique(eight)) == 256
    whole = step.start(variables, eight, 8)()
    floats = eight.astype(np.float32) / 255
    for image in (floats, floats.astype(np.float64)):
        masks = step.start(variables, image, 8)()
        for name in MASK_NAMES:
            np.testing.assert_allclose(masks[name], whole[name], atol=1e-6)


@pytest.mark.parametrize("names", [("fine",), ("coarse", "refined")])
def test_wanted_masks_alone_are_given(step, variables, images, expected, names):
    masks = step.start(variables, images, 16, names)()
    assert tuple(masks) == names
    for name in names:
        np.testing.assert_allclose(masks[name], expected[name], atol=1e-5)


def test_more_images_than_a_batch_are_refused(step, variables, images):
    with pytest.raises(ValueError, match="11 images are more than a batch of 8"):
        step.start(variables, images, 8)


def test_images_of_any_size_are_those_of_their_shape(step, variables, images, expected):
    predictor = step.predictor(variables, short_side=8, batch_size=3)
    assert predictor.batch_size == 8, "rounded up to one for each device"
    assert predictor.network_input(np.zeros((1, 1, 3), np.uint8)).shape == (8, 8, 3)
    for mask, fine in zip(predictor(list(images)), expected["fine"], strict=True):
        np.testing.assert_allclose(mask, fine, atol=1e-5)


def test_a_smaller_batch_does_not_compile_anew(network, variables, images, caplog):
    step = NetworkStep(NETWORK, replicate(network[0]))

    def compiled():
        records = [r for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
        caplog.clear()
        return len(records)

    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for count in (11, 1, 8, 11):
            step.start(variables, images[:count], 16)()
        assert compiled() == 1
        # Other masks, floats and another size of image are a program each, and no more.
        for _ in range(2):
            step.start(variables, images, 16, ("fine",))()
            step.start(variables, images.astype(np.float32) / 255, 16)()
            step.start(variables, images[:1, :4, :4], 16)()
        assert compiled() == 3


def test_a_network_that_gives_nan_is_told_with_its_origin(step, variables):
    broken = jax.tree.map(lambda leaf: np.nan * leaf, variables)
    predictor = step.predictor(broken, short_side=8, origin="model file my.safetensors")
    with pytest.raises(ValueError, match=r"gives NaN for masks \(model file my\.safetensors\)"):
        predictor([np.zeros((8, 12, 3), np.uint8)])
