r"""Train a segmentation network on unlabelled images.

    python -m sempart_jax.train --config configs/tricks.py --workdir runs/tricks \
        --config.data.train=data/DUTS

Run the same command again to continue an interrupted run from its last checkpoint.
"""

from pathlib import Path

from ml_collections import ConfigDict

from sempart_jax.data.image_sources import ImageSource, open_images
from sempart_jax.evaluation.results import Validations
from sempart_jax.host.worker_processes import check_guarded
from sempart_jax.runs.default_config import (
    PROCESS_FIELDS,
    check_config,
    default_config,
    resumable_fields,
    with_whole_patches,
)
from sempart_jax.runs.run_config import last_step
from sempart_jax.segmentation.pseudo_masks import open_pseudo_masks
from sempart_jax.training import program


def train(config: ConfigDict, workdir: Path) -> Validations:
    """Train, or continue to train, to the end of the configured steps.

    Where ``config.distributed`` is set, all processes of the run call it, each within
    :func:`sempart_jax.training.distributed.joined`.

    Args:
        config: configuration, see ``sempart_jax.runs.default_config``.
        workdir: directory of the run; that of process 0 is the one that counts.

    Returns:
        Scores of each kind of mask on the validation set, by step; empty without one, where the
        run was complete already, and in all processes but the first.

    Raises:
        ValueError: if the configuration is wrong, or it is not that of the run
            in ``workdir``, or not the same in all processes; or another process trains there.
        FileNotFoundError: if images or weights are missing.
        ModuleNotFoundError: if the weights are a PyTorch file, and PyTorch is not installed.
        NoReadableImageError: if no training image can be read.
        UnhealthyRunError: if the loss is no longer finite or the masks have collapsed. The last
            good checkpoint stays.
        StoppedRunError: if this process, or one of several, was told to end; what is done is kept.
        WriteError: if ``workdir`` cannot be written to. Older checkpoints stay.
    """
    # Not above: what is mistyped is told before JAX and what computes with it are imported.
    from sempart_jax.data.pipeline import fingerprint
    from sempart_jax.training.loop import check_devices, fit, registered_run
    from sempart_jax.training.segmentation import SegmentationTask

    # Before anything is read or written, for a worker may be here.
    check_guarded(config.data.workers)
    check_config(config)
    config = with_whole_patches(config)
    check_devices(config)
    fingerprints = {}
    images: ImageSource
    if config.pseudo_masks:
        images = masked = open_pseudo_masks(config.data.train, config.pseudo_masks)
        fingerprints["pseudo-masks"] = masked.mask_fingerprint()
    else:
        images = open_images(config.data.train)
    fingerprints["training images"] = fingerprint(images.names)
    end = last_step(config, len(images.names))
    # Network, loss terms and optimizer; panels and validation.
    task = SegmentationTask(config, images, end)
    if task.weights_fingerprint is not None:
        fingerprints["backbone weights"] = task.weights_fingerprint
    with registered_run(
        workdir,
        config,
        fingerprints,
        last_step=end,
        default=default_config(),
        resumable_fields=resumable_fields(config),
        process_fields=PROCESS_FIELDS,
    ):
        fit(task, config, images, workdir, end)
    return task.validations


if __name__ == "__main__":
    program.run(train, check_config, default_config, example="configs/tricks.py")
