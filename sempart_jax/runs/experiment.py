"""From a configuration to the objects of an experiment: the last place that sees a config."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from sempart_jax.baselines.found_objective import FoundObjective
from sempart_jax.baselines.selfmask_objective import SelfMaskObjective
from sempart_jax.baselines.unet_objective import UNetObjective
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.names import FOUND, SELFMASK, UNET
from sempart_jax.runs.network import build_network
from sempart_jax.two_tricks.augment import Augmentation
from sempart_jax.two_tricks.interfaces import MaskNetwork, Objective, Variables
from sempart_jax.two_tricks.objective import LossWeights, SempartObjective
from sempart_jax.two_tricks.train_step import TrainState, create_train_state, zero_state
from sempart_jax.two_tricks.vit import interpolate_position_embedding


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What training and evaluation need, made from one configuration.

    Attributes:
        network: what is trained; it averages batch norm over the device axis in training.
        frozen_params: parameters that are not trained.
        objective: loss terms and weights.
        optimizer: AdamW.
        augmentation: how images are changed, or ``None`` to leave them.
        average_decay: of the average of the variables that prediction takes; 0 for none.
        load_encoder: loads the parameters that a trained encoder starts from; ``None`` where the
            backbone is frozen.
    """

    network: MaskNetwork
    frozen_params: Variables
    objective: Objective[Any]
    optimizer: optax.GradientTransformation
    augmentation: Augmentation | None
    average_decay: float
    load_encoder: Callable[[], Variables] | None = None

    def initial_state(self, seed: int, image_size: int) -> TrainState:
        """Draw the state of step 0; loads, and if need be downloads, the weights of an encoder."""
        variables = self.network.init(jax.random.key(seed), self.frozen_params, image_size)
        if self.load_encoder is not None:
            encoder = self.load_encoder()
            # A checkpoint is read into the encoder's own grid, whatever grid the weights have.
            drawn = variables["params"]["encoder"]["position_embedding"]
            side = math.isqrt(drawn.shape[1] - 1)
            encoder["position_embedding"] = interpolate_position_embedding(
                jnp.asarray(encoder["position_embedding"]), (side, side)
            )
            variables["params"] = {**variables["params"], "encoder": encoder}
        return self._state(variables)

    def empty_state(self, image_size: int) -> TrainState:
        """Return a state of zeros to read a checkpoint into."""

        def initialise() -> TrainState:
            return self._state(self.network.init(jax.random.key(0), self.frozen_params, image_size))

        state: TrainState = zero_state(initialise)
        return state

    def _state(self, variables: Variables) -> TrainState:
        return create_train_state(variables, self.optimizer, averaged=self.average_decay > 0)


def build_experiment(config: ConfigDict, last_step: int) -> Experiment:
    """Build an experiment; loads, and if need be downloads, the weights of a frozen backbone."""
    network, frozen_params = build_network(config)

    def load_encoder() -> Variables:
        return load_backbone(config.backbone.name, config.backbone.weights)[1]

    augmentation = config.augmentation.to_dict()
    enabled = augmentation.pop("enabled")
    return Experiment(
        network=network,
        frozen_params=frozen_params,
        objective=_objective(config),
        optimizer=_optimizer(config.optimizer, last_step),
        augmentation=Augmentation(**augmentation) if enabled else None,
        average_decay=config.optimizer.average_decay,
        load_encoder=load_encoder if config.network == SELFMASK else None,
    )


def _objective(config: ConfigDict) -> Objective[Any]:
    if config.network == SELFMASK:
        return SelfMaskObjective(
            ranking_weight=config.selfmask.ranking_weight,
            unmatched_weight=config.selfmask.unmatched_weight,
        )
    if config.network == FOUND:
        return FoundObjective(**config.found.to_dict())
    crop_fraction = config.multiscale.crop_fraction if config.multiscale.enabled else None
    if config.network == UNET:
        return UNetObjective(
            cross_entropy_weight=config.unet.cross_entropy_weight,
            iou_weight=config.unet.iou_weight,
            equivariance_weight=config.loss.weights.equivariance,
            eps=config.loss.eps,
            crop_fraction=crop_fraction,
            filtered_teacher=config.multiscale.filtered_teacher,
        )
    return SempartObjective(
        tau=config.loss.tau,
        eps=config.loss.eps,
        sigma=config.loss.sigma,
        weights=LossWeights(**config.loss.weights),
        consistency_warmup_steps=config.loss.consistency_warmup_steps,
        crop_fraction=crop_fraction,
        filtered_teacher=config.multiscale.filtered_teacher,
    )


def _optimizer(config: ConfigDict, last_step: int) -> optax.GradientTransformation:
    optimizer = optax.adamw(
        _learning_rate(config, last_step),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    # By itself, as older checkpoints hold its state.
    return optimizer


def _learning_rate(config: ConfigDict, last_step: int) -> optax.ScalarOrSchedule:
    if config.schedule == "step":
        # eta_t = eta_0 r^floor(t / T)
        return optax.exponential_decay(
            config.learning_rate, config.decay_steps, config.decay_rate, staircase=True
        )
    if config.schedule == "polynomial":
        # eta_t = eta_0 (1 - t / T)^p
        return optax.polynomial_schedule(
            config.learning_rate, 0.0, config.decay_power, config.decay_steps or last_step
        )
    rate: float = config.learning_rate
    return rate
