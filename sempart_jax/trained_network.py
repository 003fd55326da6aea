"""A trained network and all that its masks follow from, loaded from wherever it is kept."""

import dataclasses
from pathlib import Path
from typing import Any

from sempart_jax.checkpoints import Checkpoints, read_config
from sempart_jax.experiment import build_experiment
from sempart_jax.models.segmenter import Segmenter, Variables


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network that is ready to predict.

    Attributes:
        segmenter: backbone and head.
        backbone_params: parameters of the backbone, on the host.
        head_variables: ``{"params", "batch_stats"}`` of the head, on the host.
        short_side: short side in pixels at which it was trained to see images.
        backbone: name of the backbone.
        dtype: type of the backbone's matrix products.
        origin: where it comes from, in a few words.
    """

    segmenter: Segmenter
    backbone_params: Any
    head_variables: Variables
    short_side: int
    backbone: str
    dtype: str
    origin: str

    @property
    def patch_size(self) -> int:
        """Side of the backbone's patches in pixels."""
        return self.segmenter.head.patch_size


def load_run(workdir: Path, *, weights: str | None = None) -> TrainedNetwork:
    """Load a run's best checkpoint by validation where there is one, or else its last one.

    Args:
        workdir: directory of the run.
        weights: file of the backbone's weights, where it is not where the run found it.

    Raises:
        FileNotFoundError: if there is no run, checkpoint or file of weights.
        ValueError: if the run's configuration is damaged.
    """
    config = read_config(workdir)
    if weights is not None:
        config.backbone.weights = weights
    experiment = build_experiment(config)
    state = experiment.initial_state(config.seed, config.data.image_size)
    with (
        Checkpoints(workdir, name="best", best=True) as best,
        Checkpoints(workdir) as newest,
    ):
        validated = best.latest_step is not None
        state = (best if validated else newest).restore(state)
    kind = "the best by validation" if validated else "the last"
    return TrainedNetwork(
        segmenter=experiment.segmenter,
        backbone_params=experiment.backbone_params,
        head_variables={"params": state.params, "batch_stats": state.batch_stats},
        short_side=config.data.image_size,
        backbone=config.backbone.name,
        dtype=config.backbone.dtype,
        origin=f"run {workdir}, step {int(state.step)}, {kind}",
    )
