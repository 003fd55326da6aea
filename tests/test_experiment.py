"""From configurations to the objects that they describe."""

import jax
import pytest

from sempart_jax.data.augment import Augmentation
from sempart_jax.default_config import default_config
from sempart_jax.experiment import build_experiment


@pytest.fixture
def config():
    config = default_config()
    config.backbone.name = "handcrafted"
    config.data.image_size = 64
    return config


def test_every_value_arrives(config):
    config.loss.tau = 0.3
    config.loss.eps = 1e-5
    config.loss.sigma = 2.0
    config.loss.weights.ncut_crop = 0.5
    config.multiscale.crop_fraction = 0.25
    config.multiscale.filtered_teacher = False
    config.guided_filter.radius = 4
    config.guided_filter.eps = 0.1
    config.augmentation.hue = 0.2
    experiment = build_experiment(config)
    objective = experiment.objective
    assert (objective.tau, objective.eps, objective.sigma) == (0.3, 1e-5, 2.0)
    assert objective.weights.ncut_crop == 0.5
    assert objective.weights.equivariance == 0.01
    assert objective.crop_fraction == 0.25
    assert not objective.filtered_teacher
    assert (experiment.segmenter.radius, experiment.segmenter.filter_eps) == (4, 0.1)
    assert experiment.augmentation == Augmentation(hue=0.2)


def test_tricks_and_augmentation_can_be_switched_off(config):
    config.multiscale.enabled = False
    config.augmentation.enabled = False
    experiment = build_experiment(config)
    assert experiment.objective.crop_fraction is None
    assert experiment.augmentation is None


def test_the_initial_state_follows_the_seed(config):
    experiment = build_experiment(config)
    first, again = (experiment.initial_state(0, 64) for _ in range(2))
    other = experiment.initial_state(1, 64)
    assert int(first.step) == 0
    kernels = [state.params["input_projection"]["kernel"] for state in (first, again, other)]
    assert (kernels[0] == kernels[1]).all()
    assert not (kernels[0] == kernels[2]).all()


def test_the_optimizer_is_adamw_with_the_configured_rate(config):
    config.optimizer.learning_rate = 0.25
    experiment = build_experiment(config)
    params = {"w": jax.numpy.ones(3)}
    updates, _ = experiment.optimizer.update(
        {"w": jax.numpy.array([2.0, -3.0, 0.5])}, experiment.optimizer.init(params), params
    )
    # The first step of Adam is the sign of the gradient times the rate.
    assert updates["w"].tolist() == pytest.approx([-0.25, 0.25, -0.25], rel=1e-4)


def test_a_patch_that_does_not_divide_the_image_is_an_error(config):
    config.data.image_size = 60
    with pytest.raises(ValueError, match=r"multiple of the patch of handcrafted, 8, got 60"):
        build_experiment(config)
