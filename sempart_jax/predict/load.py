"""A trained network, loaded from wherever it is kept."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.model_file import read_model
from sempart_jax.networks.model_format import is_model_file
from sempart_jax.networks.released import head_shape, infer_backbone, read_released_head
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.predict.network_source import CHECKPOINT_FOLDERS, KINDS, check_source, run_of
from sempart_jax.runs.checkpoints import Checkpoints, DamagedCheckpointError
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.network import build_network
from sempart_jax.runs.run_record import OtherTaskError, read_config
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import MaskNetwork, Variables

__all__ = ["TrainedNetwork", "load_checkpoint", "load_released", "load_run", "load_trained"]

RELEASED_SHORT_SIDE = 320
"""Side in pixels of the images on which the released heads were trained."""


def load_trained(
    source: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> TrainedNetwork:
    """Load a trained network from a run, a checkpoint, a model file or a released head.

    Args:
        source: a run's directory; one checkpoint of it, ``RUN/checkpoints/STEP`` or
            ``RUN/best/STEP``; a model file of this project; or the tensors of the head released
            with *Two Tricks* as ``.pth``, ``.npz`` or ``.safetensors``.
        backbone: name of the backbone that a released head was trained on, see
            :func:`load_released`; runs and model files know theirs.
        weights: file of the backbone's weights, where ``source`` does not hold or find them; by
            default they are downloaded by the backbone's name.

    Raises:
        FileNotFoundError: if there is no such source, checkpoint or file of weights.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if something is damaged or of another kind, or the backbone is not the one that
            the source was trained on.
    """
    path = Path(source)
    check_source(path)
    if path.is_file() and not is_model_file(path):
        return load_released(path, backbone=backbone, weights=weights)
    weights = None if weights is None else os.fspath(weights)
    if path.is_file():
        network = read_model(path, weights)
    elif (path / "config.json").exists():
        network = load_run(path, weights=weights)
    else:
        network = load_checkpoint(path, weights=weights)
    if backbone not in (None, network.backbone):
        raise ValueError(
            f"{path} was trained on {network.backbone}, not on {backbone}: leave the backbone out"
        )
    return network


def load_run(workdir: Path, *, weights: str | None = None) -> TrainedNetwork:
    """Load a run's best checkpoint by validation where there is one, or else its last one.

    Args:
        workdir: directory of the run.
        weights: file of the backbone's weights, where it is not where the run found it.

    Raises:
        FileNotFoundError: if there is no run, checkpoint or file of weights.
        ValueError: if the run's configuration or the checkpoint is damaged.
    """
    config, network, frozen_params = _build(workdir, weights)
    shapes = network.shapes(frozen_params, config.data.image_size)
    with (
        Checkpoints(workdir, name="best", best=True, read_only=True) as best,
        Checkpoints(workdir, read_only=True) as newest,
    ):
        validated = best.latest_step is not None
        try:
            step, variables = (best if validated else newest).restore_fields(shapes)
        except DamagedCheckpointError as error:
            raise DamagedCheckpointError(
                f"{error}. Name another checkpoint: {workdir}/checkpoints/STEP"
            ) from error
    kind = "the best by validation" if validated else "the last"
    origin = f"run {workdir}, step {step}, {kind}"
    return _trained(config, network, frozen_params, variables, origin)


def load_checkpoint(path: Path, *, weights: str | None = None) -> TrainedNetwork:
    """Load one checkpoint of a run.

    Args:
        path: ``RUN/checkpoints/STEP`` or ``RUN/best/STEP``.
        weights: file of the backbone's weights, where it is not where the run found it.

    Raises:
        FileNotFoundError: if there is no run, checkpoint or file of weights.
        ValueError: if the run's configuration or the checkpoint is damaged.
    """
    workdir = run_of(path)
    if workdir is None or not path.is_dir():
        raise FileNotFoundError(f"{path} is no checkpoint of a run: name {KINDS}")
    folder, step = path.absolute().parent.name, int(path.absolute().name)
    config, network, frozen_params = _build(workdir, weights)
    shapes = network.shapes(frozen_params, config.data.image_size)
    best = CHECKPOINT_FOLDERS[folder]
    with Checkpoints(workdir, name=folder, best=best, read_only=True) as checkpoints:
        _, variables = checkpoints.restore_fields(shapes, step)
    origin = f"run {workdir}, step {step}, by choice"
    return _trained(config, network, frozen_params, variables, origin)


def load_released(
    path: Path,
    *,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> TrainedNetwork:
    """Load a head by the names of the released segmenter, and the backbone that it needs.

    Args:
        path: ``.pth``, ``.npz`` or ``.safetensors``.
        backbone: name of the backbone. By default ``dino_vits8`` for a head of patch 8; one of
            patch 16 may belong to ``dino_vits16`` or ``ibot_vits16``, and has to be told.
        weights: file of the backbone's weights; by default they are downloaded.

    Raises:
        FileNotFoundError: if a file is not there, or the weights cannot be had.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if a file is damaged, of another kind or for another backbone, or the backbone
            has to be told.
    """
    variables = read_released_head(path)
    patch_size, width = head_shape(variables)
    if backbone is None:
        try:
            backbone = infer_backbone(patch_size, width)
        except ValueError as error:
            raise ValueError(f"the head in {path} needs its backbone: {error}") from error
    module, frozen_params = load_backbone(backbone, "" if weights is None else os.fspath(weights))
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


def _build(workdir: Path, weights: str | None) -> tuple[ConfigDict, MaskNetwork, Variables]:
    try:
        config = read_config(workdir, default_config())
    except OtherTaskError as error:
        raise ValueError(
            f"{error}: it has a backbone and no masks. Train on it by "
            f"--config.backbone.weights={workdir}"
        ) from error
    if weights is not None:
        config.backbone.weights = weights
    return config, *build_network(config)


def _trained(
    config: ConfigDict,
    network: MaskNetwork,
    frozen_params: Variables,
    variables: Variables,
    origin: str,
) -> TrainedNetwork:
    return TrainedNetwork(
        modules=network,
        frozen_params=frozen_params,
        variables=variables,
        short_side=config.data.image_size,
        backbone=config.backbone.name,
        dtype=config.backbone.dtype,
        origin=origin,
        head_dtype=config.head.dtype,
    )
