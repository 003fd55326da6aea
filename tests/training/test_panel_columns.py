"""The columns of a panel of a training."""

import numpy as np
import pytest

from sempart_jax.predict.network_step import NetworkStep
from sempart_jax.training.panel_columns import panel_columns
from sempart_jax.two_tricks.train_step import replicate
from tests.kernels.test_resize import reference_resize
from tests.two_tricks.small_network import NETWORK, seeded_variables

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def network():
    """The network's step, and variables of its head."""
    frozen_params, variables = seeded_variables()
    return NetworkStep(NETWORK, replicate(frozen_params)), replicate(variables)


def test_panel_without_crop(network):
    step, variables = network
    columns = panel_columns(*network, IMAGES, crop_size=None, filtered_teacher=True)
    assert list(columns) == ["image", "coarse", "fine", "fine, guided filter"]
    np.testing.assert_allclose(columns["image"], IMAGES / 255, rtol=1e-6)
    masks = step.start(variables, IMAGES.astype(np.float32) / 255, 3)()
    titles = {"coarse": "coarse", "fine": "fine", "refined": "fine, guided filter"}
    for name, title in titles.items():
        np.testing.assert_array_equal(columns[title], masks[name][..., None])


@pytest.mark.parametrize(("filtered", "name"), [(True, "refined"), (False, "fine")])
def test_panel_shows_the_zoomed_middle_and_its_mask(network, filtered, name):
    step, variables = network
    columns = panel_columns(*network, IMAGES, crop_size=(4, 6), filtered_teacher=filtered)
    assert list(columns)[-2:] == ["crop, zoomed", "teacher target"]
    zoomed, target = columns["crop, zoomed"], columns["teacher target"]
    assert zoomed.shape == (3, 8, 12, 3)
    assert target.shape == (3, 8, 12, 1)
    middle = IMAGES[:, 2:6, 3:9] / 255.0
    for index in range(3):
        for channel in range(3):
            expected = reference_resize(middle[index, ..., channel], 8, 12)
            np.testing.assert_allclose(zoomed[index, ..., channel], expected, atol=1e-5)
    masks = step.start(variables, zoomed, 3)()
    np.testing.assert_allclose(target[..., 0], masks[name], atol=1e-6)
    assert np.abs(masks["refined"] - masks["fine"]).max() > 1e-4
