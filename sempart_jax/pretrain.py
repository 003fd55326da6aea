r"""Pretrain a backbone by DINO on unlabelled images of any kind.

    python -m sempart_jax.pretrain --config configs/dino_pretrain.py --workdir runs/backbone \
        --config.data.train=my_images

Then train on it with `--config.backbone.weights=runs/backbone`. Run the same command again to
continue an interrupted run from its last checkpoint.
"""

from pathlib import Path

from ml_collections import ConfigDict

from sempart_jax.data.image_sources import open_images
from sempart_jax.host.worker_processes import check_guarded
from sempart_jax.runs.run_config import last_step
from sempart_jax.training import program
from sempart_jax.training.pretraining_config import (
    PROCESS_FIELDS,
    RESUMABLE_FIELDS,
    check_pretraining_config,
    pretraining_config,
)


def pretrain(config: ConfigDict, workdir: Path) -> None:
    """Pretrain, or continue to pretrain, to the end of the configured steps.

    With every checkpoint, the teacher's backbone is written to ``workdir/backbone.safetensors``.
    Where ``config.distributed`` is set, all processes of the run call it, each within
    :func:`sempart_jax.training.distributed.joined`.

    Args:
        config: configuration, see ``sempart_jax.training.pretraining_config``.
        workdir: directory of the run; that of process 0 is the one that counts.

    Raises:
        ValueError: if the configuration is wrong, or it is not that of the run
            in ``workdir``, or not the same in all processes; or another process trains there.
        FileNotFoundError: if images are missing.
        NoReadableImageError: if no training image can be read.
        UnhealthyRunError: if the loss is no longer finite or the teacher has collapsed. The last
            good checkpoint stays.
        StoppedRunError: if this process, or one of several, was told to end; what is done is kept.
        WriteError: if ``workdir`` cannot be written to. Older checkpoints stay.
    """
    # Not above: what is mistyped is told before JAX and what computes with it are imported.
    from sempart_jax.data.pipeline import fingerprint
    from sempart_jax.training.loop import check_devices, fit, registered_run
    from sempart_jax.training.pretraining import PretrainingTask

    # Before anything is read or written, for a worker may be here.
    check_guarded(config.data.workers)
    check_pretraining_config(config)
    check_devices(config)
    images = open_images(config.data.train)
    end = last_step(config, len(images.names))
    task = PretrainingTask(config, images, end)
    with registered_run(
        workdir,
        config,
        {"training images": fingerprint(images.names)},
        last_step=end,
        default=pretraining_config(),
        resumable_fields=RESUMABLE_FIELDS,
        process_fields=PROCESS_FIELDS,
    ):
        fit(task, config, images, workdir, end)


if __name__ == "__main__":
    program.run(
        pretrain,
        check_pretraining_config,
        pretraining_config,
        example="configs/dino_pretrain.py",
    )
