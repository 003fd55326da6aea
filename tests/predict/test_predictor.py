"""Prediction in batches of one shape, and the columns of a panel."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.predict.predictor import (
    AnySizePredictor,
    Predictor,
    panel_columns,
    trained_variables,
)
from sempart_jax.two_tricks.train_step import MASK_NAMES, Masks, TrainState, replicate
from tests.kernels.test_resize import reference_resize
from tests.two_tricks.small_network import NETWORK, seeded_variables


@pytest.fixture(scope="module")
def network():
    """Backbone parameters and head variables on the host."""
    return seeded_variables()


@pytest.fixture(scope="module")
def predictor(network):
    return Predictor(NETWORK, replicate(network[0]))


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
    return {name: np.stack([m[i] for m in masks]) for i, name in enumerate(MASK_NAMES)}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 11])
def test_masks_are_those_of_each_image_alone(predictor, variables, images, expected, count):
    masks = predictor(variables, images[:count], batch_size=8)
    assert tuple(masks) == MASK_NAMES
    assert masks["coarse"].shape == (count, 4, 6)
    assert masks["fine"].shape == masks["refined"].shape == (count, 8, 12)
    for name in MASK_NAMES:
        np.testing.assert_allclose(masks[name], expected[name][:count], atol=1e-5)
    # Images must be told apart for this to mean anything.
    assert np.abs(expected["fine"][0] - expected["fine"][1]).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_batch_size_changes_nothing(predictor, variables, images, expected, batch_size):
    masks = predictor(variables, images, batch_size=batch_size)
    np.testing.assert_allclose(masks["refined"], expected["refined"], atol=1e-5)


def test_bytes_and_floats_give_the_same_masks_to_the_last_bit(predictor, variables, images):
    assert len(np.unique(images)) == 256
    whole = predictor(variables, images, batch_size=8)
    floats = images.astype(np.float32) / 255
    for image in (floats, floats.astype(np.float64)):
        masks = predictor(variables, image, batch_size=8)
        for name in MASK_NAMES:
            np.testing.assert_array_equal(masks[name], whole[name])


@pytest.mark.parametrize("names", [("fine",), ("coarse", "refined")])
def test_wanted_masks_alone_are_given(predictor, variables, images, expected, names):
    masks = predictor(variables, images, 8, names)
    assert tuple(masks) == names
    for name in names:
        np.testing.assert_allclose(masks[name], expected[name], atol=1e-5)


def test_more_images_than_a_batch_are_refused_by_start(predictor, variables, images):
    with pytest.raises(ValueError, match="11 images are more than a batch of 8"):
        predictor.start(variables, images, 8)


def test_smaller_last_batch_does_not_compile_anew(network, variables, images, caplog):
    predictor = Predictor(NETWORK, replicate(network[0]))

    def compiled():
        records = [r for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
        caplog.clear()
        return len(records)

    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for count in (11, 1, 3, 8, 11):
            predictor(variables, images[:count], batch_size=16)
        assert compiled() == 1
        # Other masks, floats and another size of image are a program each, and no more.
        for _ in range(2):
            predictor(variables, images, 16, ("fine",))
            predictor(variables, images.astype(np.float32) / 255, 16)
            predictor(variables, images[:1, :4, :4], batch_size=16)
        assert compiled() == 3


class WatchedStep:
    """Stands in for the devices: the fine mask of an image is its red."""

    def __init__(self):
        self.events = []

    def __call__(self, frozen_params, variables, images, names):
        assert names == ("fine",)
        assert images.dtype == np.uint8
        self.events.append(("begun", images.shape[:2], images[0, 0, 0, 0, 0]))
        return Masks(None, Watched(images[..., :1], self.events), None)


class Watched:
    """An array on a device."""

    def __init__(self, array, events):
        self._array, self._events = array, events

    def copy_to_host_async(self):
        self._events.append(("copying", self._array[0, 0, 0, 0, 0]))

    def __array__(self, dtype=None, copy=None):
        del dtype, copy
        self._events.append(("fetched", self._array[0, 0, 0, 0, 0]))
        return self._array


@pytest.mark.usefixtures("unchecked_shapes")
def test_the_next_batch_is_begun_before_the_last_is_fetched(network):
    predictor = Predictor(NETWORK, replicate(network[0]))
    predictor._step = step = WatchedStep()
    images = np.zeros((27, 2, 2, 3), np.uint8)
    images[..., 0] = np.arange(27).reshape(-1, 1, 1)
    masks = predictor("variables", images, 8, ("fine",))
    np.testing.assert_array_equal(masks["fine"][:, 0, 0], np.arange(27))
    events = [event for event in step.events if event[0] != "copying"]
    assert [event[-1] for event in step.events if event[0] == "copying"] == [0, 8, 16, 24]
    assert events == [
        ("begun", (8, 1), 0),
        ("begun", (8, 1), 8),
        ("fetched", 0),
        ("begun", (8, 1), 16),
        ("fetched", 8),
        ("begun", (8, 1), 24),  # three images, and five that fill it up
        ("fetched", 16),
        ("fetched", 24),
    ]


def test_trained_variables_are_those_of_the_state():
    state = TrainState(
        step=jnp.zeros((), jnp.int32), params={"a": 1}, batch_stats={"b": 2}, opt_state=()
    )
    assert trained_variables(state) == {"params": {"a": 1}, "batch_stats": {"b": 2}}


def test_panel_without_crop(predictor, variables, images, expected):
    columns = panel_columns(predictor, variables, images[:3], crop_size=None, filtered_teacher=True)
    assert {title: column.shape for title, column in columns.items()} == {
        "image": (3, 8, 12, 3),
        "coarse": (3, 4, 6, 1),
        "fine": (3, 8, 12, 1),
        "fine, guided filter": (3, 8, 12, 1),
    }
    np.testing.assert_allclose(columns["image"], images[:3] / 255, rtol=1e-6)
    titles = {"coarse": "coarse", "fine": "fine", "refined": "fine, guided filter"}
    for name, title in titles.items():
        np.testing.assert_allclose(columns[title][..., 0], expected[name][:3], atol=1e-5)


@pytest.mark.parametrize(("filtered", "name"), [(True, "refined"), (False, "fine")])
def test_panel_shows_the_zoomed_middle_and_its_mask(predictor, variables, images, filtered, name):
    columns = panel_columns(
        predictor, variables, images[:3], crop_size=(4, 6), filtered_teacher=filtered
    )
    assert list(columns)[-2:] == ["crop, zoomed", "teacher target"]
    zoomed, target = columns["crop, zoomed"], columns["teacher target"]
    assert zoomed.shape == (3, 8, 12, 3)
    assert target.shape == (3, 8, 12, 1)
    middle = images[:3, 2:6, 3:9] / 255.0
    for index in range(3):
        for channel in range(3):
            expected = reference_resize(middle[index, ..., channel], 8, 12)
            np.testing.assert_allclose(zoomed[index, ..., channel], expected, atol=1e-5)
    masks = predictor(variables, zoomed, batch_size=3)
    np.testing.assert_allclose(target[..., 0], masks[name], atol=1e-6)
    assert np.abs(masks["refined"] - masks["fine"]).max() > 1e-4


class RedPredictor:
    """Stands in for a network on devices: the mask is the red of what it sees."""

    def __init__(self):
        self.shapes = []

    def start(self, variables, images, batch_size, names):
        assert (variables, names) == ("variables", ("fine",))
        self.shapes.append((*images.shape, batch_size))
        return lambda: {"fine": images[..., 0].astype(np.float32) / 255}


def red_predictor(**kwargs):
    stand_in = RedPredictor()
    return stand_in, AnySizePredictor(stand_in, "variables", short_side=32, patch_size=8, **kwargs)


def ramp(height, width):
    """Red that rises from left to right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    return image


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_network_that_gives_nan_is_told_with_its_origin():
    class Broken:
        def start(self, variables, images, batch_size, names):
            masks = np.where(images[..., 0] > 100, np.nan, 0.5).astype(np.float32)
            return lambda: {"fine": masks}

    predictor = AnySizePredictor(
        Broken(), "variables", short_side=32, patch_size=8, origin="model file my.safetensors"
    )
    assert predictor([np.zeros((32, 32, 3), np.uint8)])[0].max() == 0.5
    with pytest.raises(ValueError, match=r"gives NaN for masks \(model file my\.safetensors\)"):
        predictor([ramp(32, 32)])


@pytest.mark.usefixtures("unchecked_shapes")
def test_images_of_any_size_are_seen_in_few_shapes_and_keep_their_order_and_size():
    sizes = [(60, 80), (32, 32), (80, 60), (90, 120), (500, 500), (20, 28)]
    stand_in, predictor = red_predictor(batch_size=4)
    masks = predictor([ramp(*size) for size in sizes])
    # Eight devices round the batch up.
    assert predictor.batch_size == 8
    assert sorted(stand_in.shapes) == [
        (1, 40, 32, 3, 8),
        (2, 32, 32, 3, 8),
        (3, 32, 40, 3, 8),
    ]
    for mask, size in zip(masks, sizes, strict=True):
        assert mask.shape == size
        assert mask.dtype == np.float32
        # Stretched to the network's size and back, a ramp is still that ramp.
        np.testing.assert_allclose(mask, ramp(*size)[..., 0] / 255, atol=1.5 / 32)


@pytest.mark.usefixtures("unchecked_shapes")
def test_an_image_of_the_networks_size_is_not_resized():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    _, predictor = red_predictor()
    (mask,) = predictor([image])
    np.testing.assert_array_equal(mask, image[..., 0].astype(np.float32) / 255)
    assert predictor([]) == []


def test_masks_stay_in_range_when_they_are_stretched():
    mask = (np.random.default_rng(0).random((8, 8)) > 0.5).astype(np.float32)
    fitted = AnySizePredictor.fit(mask, 37, 5)
    assert fitted.shape == (37, 5)
    assert fitted.min() >= 0
    assert fitted.max() <= 1
