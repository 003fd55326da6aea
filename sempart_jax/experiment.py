"""From a configuration to the objects of an experiment: the last place that sees a config."""

import dataclasses
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from sempart_jax.data.augment import Augmentation
from sempart_jax.models.backbone import load_backbone
from sempart_jax.models.head import SegmentationHead
from sempart_jax.models.segmenter import Segmenter
from sempart_jax.objective import LossWeights, Objective
from sempart_jax.train_step import DEVICE_AXIS, TrainState, create_train_state


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What training and evaluation need, made from one configuration.

    Attributes:
        segmenter: network; its head averages batch norm over the device axis in training.
        backbone_params: frozen parameters.
        objective: loss terms and weights.
        optimizer: AdamW.
        augmentation: how images are changed, or ``None`` to leave them.
    """

    segmenter: Segmenter
    backbone_params: dict[str, Any]
    objective: Objective
    optimizer: optax.GradientTransformation
    augmentation: Augmentation | None

    def initial_state(self, seed: int, image_size: int) -> TrainState:
        """Draw the state of step 0.

        Args:
            seed: seed of the head's first parameters.
            image_size: side of the training images in pixels.
        """
        variables = self.segmenter.init(jax.random.key(seed), self.backbone_params, image_size)
        return create_train_state(variables, self.optimizer)


def build_experiment(config: ConfigDict) -> Experiment:
    """Build an experiment; loads, and if need be downloads, the backbone's weights.

    Args:
        config: checked configuration.

    Raises:
        ValueError: if the patch does not divide the image size, or as ``load_backbone`` raises.
        FileNotFoundError: if the backbone's weights cannot be had.
    """
    backbone, backbone_params = load_backbone(
        config.backbone.name, config.backbone.weights, config.backbone.dtype
    )
    patch_size: int = backbone.patch_size
    if config.data.image_size % patch_size:
        raise ValueError(
            f"config.data.image_size must be a multiple of the patch of {config.backbone.name}, "
            f"{patch_size}, got {config.data.image_size}"
        )
    augmentation = config.augmentation.to_dict()
    enabled = augmentation.pop("enabled")
    return Experiment(
        segmenter=Segmenter(
            backbone,
            SegmentationHead(patch_size=patch_size, axis_name=DEVICE_AXIS),
            radius=config.guided_filter.radius,
            filter_eps=config.guided_filter.eps,
        ),
        backbone_params=backbone_params,
        objective=Objective(
            tau=config.loss.tau,
            eps=config.loss.eps,
            sigma=config.loss.sigma,
            weights=LossWeights(**config.loss.weights),
            crop_fraction=config.multiscale.crop_fraction if config.multiscale.enabled else None,
            filtered_teacher=config.multiscale.filtered_teacher,
        ),
        optimizer=optax.adamw(
            config.optimizer.learning_rate,
            b1=config.optimizer.b1,
            b2=config.optimizer.b2,
            eps=config.optimizer.eps,
            weight_decay=config.optimizer.weight_decay,
        ),
        augmentation=Augmentation(**augmentation) if enabled else None,
    )
