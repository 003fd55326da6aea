"""A trained network, loaded from wherever it is kept."""

import os
from pathlib import Path

from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.model_file import read_model
from sempart_jax.networks.model_format import is_model_file
from sempart_jax.networks.names import NO_BACKBONE, UNET
from sempart_jax.networks.released import head_shape, infer_backbone, read_released_head
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.runs.checkpoints import Checkpoints, DamagedCheckpointError
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.network import build_network
from sempart_jax.runs.run_record import OtherTaskError, read_config
from sempart_jax.runs.source import CHECKPOINT_FOLDERS, find_source
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Variables

RELEASED_SHORT_SIDE = 320
"""Side in pixels of the images on which the released heads were trained."""


def load_network(
    source: str | os.PathLike[str] | None,
    *,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> TrainedNetwork:
    """Load a trained network from a run, a checkpoint, a model file or a released head.

    Of a run, the best checkpoint by validation is taken where there is one, or else the last one.

    Args:
        source: a run's directory; one checkpoint of it, ``RUN/checkpoints/STEP`` or
            ``RUN/best/STEP``; a model file of this project; or the tensors of the head released
            with *Two Tricks* as ``.pth``, ``.npz`` or ``.safetensors``; or a model of the package,
            see ``runs.source.find_source``.
        backbone: name of the backbone that a released head was trained on; ``dino_vits8`` by
            default for a head of patch 8, while one of patch 16 may belong to ``dino_vits16`` or
            ``ibot_vits16``, and has to be told. Runs and model files know theirs.
        weights: file of the backbone's weights, where ``source`` does not hold or find them; by
            default they are downloaded by the backbone's name.

    Raises:
        FileNotFoundError: if there is no such source, checkpoint, file of weights or model of
            the package.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if something is damaged or of another kind, or the backbone is not the one that
            the source was trained on, or has to be told.
    """
    path = find_source(source)
    weights = None if weights is None else os.fspath(weights)
    if path.is_file() and not is_model_file(path):
        return _load_released(path, backbone, weights or "")
    network = read_model(path, weights) if path.is_file() else _load_run(path, weights)
    if backbone not in (None, network.backbone):
        was = "without one" if network.backbone == NO_BACKBONE else f"on {network.backbone}"
        raise ValueError(f"{path} was trained {was}, not on {backbone}: do not set the backbone")
    return network


def _load_run(path: Path, weights: str | None) -> TrainedNetwork:
    """Load a run, or the checkpoint of one that ``path`` names."""
    is_run = (path / "config.json").exists()
    workdir = path if is_run else path.absolute().parents[1]
    try:
        config = read_config(workdir, default_config())
    except OtherTaskError as error:
        raise ValueError(
            f"{error}: it has only a backbone. Train on it with --config.backbone.weights={workdir}"
        ) from error
    if weights is not None:
        config.backbone.weights = weights
    network, frozen_params = build_network(config)
    shapes = network.shapes(frozen_params, config.data.image_size)
    if config.optimizer.average_decay:
        shapes = {"average": shapes}
    if is_run:
        step, fields, kind = _read_chosen(workdir, shapes)
    else:
        folder, number = path.absolute().parts[-2:]
        best = CHECKPOINT_FOLDERS[folder]
        with Checkpoints(workdir, name=folder, best=best, read_only=True) as checkpoints:
            step, fields = checkpoints.restore_fields(shapes, int(number))
        kind = "chosen by path"
    return TrainedNetwork(
        modules=network,
        frozen_params=frozen_params,
        variables=fields.get("average", fields),
        short_side=config.data.image_size,
        backbone=config.backbone.name,
        dtype=config.backbone.dtype,
        origin=f"run {workdir}, step {step}, {kind}",
        head_dtype=config.head.dtype,
        foreground_chosen=config.network == UNET or config.loss.weights.principal > 0,
    )


def _read_chosen(workdir: Path, shapes: Variables) -> tuple[int, Variables, str]:
    with (
        Checkpoints(workdir, name="best", best=True, read_only=True) as best,
        Checkpoints(workdir, read_only=True) as newest,
    ):
        validated = best.latest_step is not None
        try:
            step, fields = (best if validated else newest).restore_fields(shapes)
        except DamagedCheckpointError as error:
            raise DamagedCheckpointError(
                f"{error}. Choose another checkpoint: {workdir}/checkpoints/STEP"
            ) from error
    return step, fields, "best by validation" if validated else "last"


def _load_released(path: Path, backbone: str | None, weights: str) -> TrainedNetwork:
    """Load a head by the names of the released segmenter, and the backbone that it needs."""
    variables = read_released_head(path)
    patch_size, width = head_shape(variables)
    if backbone is None:
        try:
            backbone = infer_backbone(patch_size, width)
        except ValueError as error:
            raise ValueError(f"cannot tell the backbone of the head in {path}: {error}") from error
    module, frozen_params = load_backbone(backbone, weights)
    if (module.patch_size, module.width) != (patch_size, width):
        raise ValueError(
            f"the head in {path} is for patches of {patch_size} pixels and keys of {width} "
            f"channels, but {backbone} has {module.patch_size} and {module.width}: name the "
            "backbone that it was trained on"
        )
    return TrainedNetwork(
        modules=HeadNetwork(module, SegmentationHead(patch_size=patch_size)),
        frozen_params=frozen_params,
        variables=variables,
        short_side=RELEASED_SHORT_SIDE,
        backbone=backbone,
        dtype="float32",
        origin=f"released head {path}",
    )
