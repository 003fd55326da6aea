"""From configurations to the objects that they describe."""

import jax
import numpy as np
import pytest

from sempart_jax.baselines.selfmask_objective import SelfMaskObjective
from sempart_jax.baselines.unet import UNet, UNetNetwork
from sempart_jax.baselines.unet_objective import UNetObjective
from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.model_format import Description, write_tensors
from sempart_jax.networks.pretrained import create_backbone
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.experiment import build_experiment
from sempart_jax.runs.network import build_network
from sempart_jax.two_tricks.augment import Augmentation
from sempart_jax.two_tricks.train_step import AveragedTrainState, TrainState


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
    config.head.dtype = "bfloat16"
    experiment = build_experiment(config, last_step=10)
    objective = experiment.objective
    assert (objective.tau, objective.eps, objective.sigma) == (0.3, 1e-5, 2.0)
    assert objective.weights.ncut_crop == 0.5
    assert objective.weights.equivariance == 0.01
    assert objective.crop_fraction == 0.25
    assert not objective.filtered_teacher
    assert (experiment.network.radius, experiment.network.filter_eps) == (4, 0.1)
    assert experiment.augmentation == Augmentation(hue=0.2)
    assert experiment.network.head.dtype == "bfloat16"


def test_tricks_and_augmentation_can_be_switched_off(config):
    config.multiscale.enabled = False
    config.augmentation.enabled = False
    experiment = build_experiment(config, last_step=10)
    assert experiment.objective.crop_fraction is None
    assert experiment.augmentation is None


def test_the_initial_state_follows_the_seed(config):
    experiment = build_experiment(config, last_step=10)
    first, again = (experiment.initial_state(0, 64) for _ in range(2))
    other = experiment.initial_state(1, 64)
    assert int(first.step) == 0
    kernels = [state.params["input_projection"]["kernel"] for state in (first, again, other)]
    assert (kernels[0] == kernels[1]).all()
    assert not (kernels[0] == kernels[2]).all()


def test_an_average_of_the_weights_is_kept_where_one_is_asked_for(config):
    plain = build_experiment(config, last_step=10).empty_state(64)
    assert type(plain) is TrainState
    config.optimizer.average_decay = 0.9
    experiment = build_experiment(config, last_step=10)
    assert experiment.average_decay == 0.9
    empty = experiment.empty_state(64)
    assert isinstance(empty, AveragedTrainState)
    jax.tree.map(np.testing.assert_array_equal, empty.average, plain.variables)


def test_the_optimizer_is_adamw_with_the_configured_rate(config):
    config.optimizer.learning_rate = 0.25
    experiment = build_experiment(config, last_step=10)
    params = {"w": jax.numpy.ones(3)}
    updates, _ = experiment.optimizer.update(
        {"w": jax.numpy.array([2.0, -3.0, 0.5])}, experiment.optimizer.init(params), params
    )
    # The first step of Adam is the sign of the gradient times the rate.
    assert updates["w"].tolist() == pytest.approx([-0.25, 0.25, -0.25], rel=1e-4)


@pytest.fixture
def vit(config):
    config.backbone.name = "vit_tiny16"
    config.backbone.weights = "random"
    config.data.image_size = 32
    config.guided_filter.radius = 3
    return config


def test_found_learns_a_decoder_on_a_frozen_backbone(vit):
    vit.network = "found"
    vit.found.tau = 0.25
    vit.found.background_steps = 7
    experiment = build_experiment(vit, last_step=10)
    assert (experiment.objective.tau, experiment.objective.background_steps) == (0.25, 7)
    assert experiment.network.radius == 3
    state = experiment.initial_state(0, 32)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == 193
    assert "block_11" in experiment.frozen_params


@pytest.mark.slow
def test_selfmask_starts_from_the_weights_of_its_encoder(vit):
    vit.network = "selfmask"
    vit.pseudo_masks = "masks"
    vit.selfmask.queries = 4
    vit.selfmask.decoder_layers = 1
    vit.selfmask.ranking_weight = 0.5
    vit.selfmask.unmatched_weight = 0.25
    experiment = build_experiment(vit, last_step=10)
    assert experiment.objective == SelfMaskObjective(0.5, 0.25)
    assert experiment.frozen_params == {}
    state = experiment.initial_state(3, 32)
    _, expected = load_backbone("vit_tiny16", "random")
    jax.tree.map(np.testing.assert_array_equal, state.params["encoder"], expected)
    assert state.params["query_embedding"].shape == (4, 192)


def test_selfmask_computes_blocks_of_its_encoder_again_where_asked(vit):
    vit.network = "selfmask"
    again = []
    for asked in (False, True):
        vit.selfmask.remat = asked
        again.append(build_experiment(vit, last_step=10).network.mask_former.encoder.remat)
    assert again == [False, True]


@pytest.mark.slow
def test_selfmask_takes_weights_of_any_grid(vit, tmp_path):
    vit.network = "selfmask"
    vit.selfmask.decoder_layers = 1
    module = create_backbone("vit_tiny16").clone(trained_grid=3)
    params = jax.jit(module.init)(jax.random.key(0), jax.numpy.zeros((1, 48, 48, 3)))["params"]
    description = Description("vit_tiny16", 16, "drawn")
    write_tensors(tmp_path / "w.safetensors", description, flatten(params, "backbone/"))
    vit.backbone.weights = str(tmp_path / "w.safetensors")
    experiment = build_experiment(vit, last_step=10)
    state, empty = experiment.initial_state(0, 32), experiment.empty_state(32)
    assert state.params["encoder"]["position_embedding"].shape == (1, 1 + 14 * 14, 192)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), state, empty)


def test_prediction_with_selfmask_needs_no_weights_of_a_backbone(vit):
    vit.network = "selfmask"
    vit.backbone.weights = "/no/file"
    vit.selfmask.decoder_layers = 1
    network, frozen_params = build_network(vit)
    assert frozen_params == {}
    assert "encoder" in network.shapes(frozen_params, 32)["params"]
    with pytest.raises(FileNotFoundError, match="/no/file"):
        build_experiment(vit, last_step=1).initial_state(0, 32)


def test_a_unet_learns_by_its_own_objective(config):
    config.network = "unet"
    config.backbone.name = "none"
    config.pseudo_masks = "masks"
    config.unet.channels = 2
    config.unet.cross_entropy_weight = 2.0
    config.unet.iou_weight = 3.0
    config.loss.weights.equivariance = 4.0
    config.loss.eps = 1e-5
    config.multiscale.crop_fraction = 0.25
    config.multiscale.filtered_teacher = False
    config.guided_filter.radius = 5
    experiment = build_experiment(config, last_step=10)
    expected = UNetObjective(2.0, 3.0, 4.0, 1e-5, crop_fraction=0.25, filtered_teacher=False)
    assert experiment.objective == expected
    assert experiment.network == UNetNetwork(UNet(2, "device"), radius=5)
    assert experiment.frozen_params == {}
    assert experiment.load_encoder is None
    config.multiscale.enabled = False
    assert build_experiment(config, last_step=10).objective.crop_fraction is None
    config.data.image_size = 72
    with pytest.raises(ValueError, match=r"multiple of the patch of unet, 16, got 72: take 64"):
        build_experiment(config, last_step=10)


@pytest.mark.parametrize("network", ["found", "selfmask"])
def test_a_network_that_needs_a_vision_transformer_says_so(config, network):
    config.network = network
    with pytest.raises(ValueError, match=f"network={network} needs a vision transformer"):
        build_experiment(config, last_step=10)


def rates(config, last_step, steps):
    """The sizes of Adam's steps along a constant gradient are the learning rates."""
    optimizer = build_experiment(config, last_step).optimizer
    params = {"w": jax.numpy.zeros(1)}
    state = optimizer.init(params)
    found = []
    for _ in range(steps):
        updates, state = optimizer.update({"w": jax.numpy.ones(1)}, state, params)
        found.append(-float(updates["w"][0]))
    return found


def test_schedules_of_the_learning_rate(config):
    config.optimizer.learning_rate = 1.0
    assert rates(config, 4, 3) == pytest.approx([1, 1, 1], rel=1e-5)
    config.optimizer.schedule = "step"
    config.optimizer.decay_steps = 2
    config.optimizer.decay_rate = 0.5
    assert rates(config, 4, 5) == pytest.approx([1, 1, 0.5, 0.5, 0.25], rel=1e-5)
    config.optimizer.schedule = "polynomial"
    config.optimizer.decay_steps = 0
    config.optimizer.decay_power = 0.9
    expected = [(1 - t / 4) ** 0.9 for t in range(4)]
    assert rates(config, 4, 4) == pytest.approx(expected, rel=1e-5)
    config.optimizer.decay_steps = 8
    assert rates(config, 4, 2) == pytest.approx([1, (7 / 8) ** 0.9], rel=1e-5)


def test_a_patch_that_does_not_divide_the_image_is_an_error(config):
    config.data.image_size = 60
    with pytest.raises(ValueError, match=r"multiple of the patch of handcrafted, 8, got 60"):
        build_experiment(config, last_step=10)
