"""The network as a whole: normalisation, gradient, batch norm and the filter behind it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from tests.two_tricks.small_network import BACKBONE, NETWORK, seeded_variables
from tests.two_tricks.test_filters import reference_guided_filter


@pytest.fixture(scope="module")
def network():
    return jax.tree.map(jnp.asarray, seeded_variables())


@pytest.fixture(scope="module")
def backbone_params(network):
    return network[0]


@pytest.fixture(scope="module")
def variables(network):
    return network[1]


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(2).uniform(size=(3, 8, 12, 3)), jnp.float32)


@pytest.fixture(scope="module")
def predict():
    return jax.jit(NETWORK.predict, static_argnames="train")


@pytest.fixture(scope="module")
def prediction(predict, backbone_params, variables, image):
    return predict(backbone_params, variables, image)


def test_first_parameters_fit_the_keys_and_follow_the_random_key(backbone_params, variables):
    keys = jax.random.split(jax.random.key(0))
    two = jax.vmap(lambda key: NETWORK.init(key, backbone_params, 4))(keys)
    shapes = jax.tree.map(lambda leaf: (2, *leaf.shape), variables)
    assert jax.tree.map(jnp.shape, two) == shapes
    first, second = two["params"]["input_projection"]["kernel"]
    assert first.shape == (12, 64)
    assert np.abs(first - second).max() > 0.1


def test_prediction_is_head_on_backbone_on_normalised_image(
    prediction, backbone_params, variables, image
):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = jnp.asarray((np.asarray(image) - mean) / std, jnp.float32)

    @jax.jit
    def run(normalised):
        keys = BACKBONE.apply({"params": backbone_params}, normalised)["keys"]
        return keys, NETWORK.head.apply(variables, keys, normalised)

    keys, logits = run(normalised)
    np.testing.assert_allclose(prediction.keys, keys, atol=1e-5)
    for name in ("coarse", "fine"):
        logit = np.asarray(logits[name], np.float64)
        np.testing.assert_allclose(getattr(prediction, name), 1 / (1 + np.exp(-logit)), atol=1e-5)


def test_shapes_and_range(prediction):
    assert prediction.keys.shape == (3, 4, 6, 12)
    assert prediction.coarse.shape == (3, 4, 6, 1)
    assert prediction.fine.shape == (3, 8, 12, 1)
    for mask in (prediction.coarse, prediction.fine):
        assert mask.dtype == jnp.float32
        assert mask.min() > 0
        assert mask.max() < 1
    assert np.std(prediction.fine) > 1e-3


def test_prediction_keeps_the_running_averages_and_each_image_to_itself(
    predict, prediction, backbone_params, variables, image
):
    jax.tree.map(
        np.testing.assert_array_equal, prediction.batch_stats, dict(variables["batch_stats"])
    )
    changed = image.at[1:].set(0)
    other = predict(backbone_params, variables, changed)
    np.testing.assert_allclose(other.fine[0], prediction.fine[0], atol=1e-6)
    assert np.abs(other.fine[1] - prediction.fine[1]).max() > 1e-3


def test_training_takes_the_statistics_of_the_batch(prediction, backbone_params, variables, image):
    # Outside of pmap there is no axis to average over.
    network = dataclasses.replace(NETWORK, head=SegmentationHead(patch_size=2))
    predict = jax.jit(network.predict, static_argnames="train")
    training = predict(backbone_params, variables, image, train=True)
    np.testing.assert_array_equal(training.coarse, prediction.coarse)
    assert np.abs(training.fine - prediction.fine).max() > 1e-3
    moved = jax.tree.map(
        lambda new, old: bool((new != old).all()),
        training.batch_stats,
        dict(variables["batch_stats"]),
    )
    assert all(jax.tree.leaves(moved))
    # The averages that stand in the variables do not matter in training.
    zeros = {**variables, "batch_stats": jax.tree.map(jnp.zeros_like, variables["batch_stats"])}
    again = predict(backbone_params, zeros, image, train=True)
    np.testing.assert_array_equal(again.fine, training.fine)


def test_no_gradient_flows_into_the_backbone(backbone_params, variables, image):
    def loss(backbone_params):
        prediction = NETWORK.predict(backbone_params, variables, image)
        return prediction.fine.mean() + prediction.coarse.mean() + prediction.keys.mean()

    gradients = jax.jit(jax.grad(loss))(backbone_params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


def test_handcrafted_backbone_fits_too():
    network = HeadNetwork(HandcraftedBackbone(), SegmentationHead(patch_size=8))
    image = jax.ShapeDtypeStruct((2, 16, 24, 3), jnp.float32)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), {}, 16))
    # 748,165 parameters at patch 8 and keys of 384 channels (two tricks, App. A).
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 748_165
    prediction = jax.eval_shape(network.predict, {}, variables, image)
    assert prediction.fine.shape == (2, 16, 24, 1)


def test_refined_mask_is_the_guided_filter_of_the_grey_image():
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(2, 16, 24, 3)).astype(np.float32)
    mask = rng.uniform(0.3, 0.7, size=(2, 16, 24, 1)).astype(np.float32)
    refined = jax.jit(NETWORK.refine)(image, mask)
    for index in range(2):
        grey = image[index].astype(np.float64).mean(-1, keepdims=True)
        expected = reference_guided_filter(grey, mask[index], radius=3, eps=1e-2)
        assert 0 < expected.min() < expected.max() < 1
        np.testing.assert_allclose(refined[index], expected, atol=1e-5)


def test_refined_mask_is_clipped():
    rng = np.random.default_rng(0)
    image = rng.uniform(0.3, 0.4, size=(1, 16, 24, 3)).astype(np.float32)
    image[:, :, 12:] += 0.3
    # Pixels beside the edge that are darker and lighter than both sides overshoot.
    image[0, 3, 10], image[0, 12, 13] = 0.0, 1.0
    mask = np.zeros((1, 16, 24, 1), np.float32)
    mask[:, :, 12:] = 1
    grey = image[0].astype(np.float64).mean(-1, keepdims=True)
    expected = reference_guided_filter(grey, mask[0], radius=3, eps=1e-2)
    assert expected.min() < -0.02
    assert expected.max() > 1.02
    refined = jax.jit(NETWORK.refine)(image, mask)
    np.testing.assert_allclose(refined[0], np.clip(expected, 0, 1), atol=1e-5)
