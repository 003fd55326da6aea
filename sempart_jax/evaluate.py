r"""Score a trained run on labelled benchmarks.

    python -m sempart_jax.evaluate --workdir runs/tricks --data_root data \
        --datasets duts_te,ecssd

Prints a table and writes ``evaluation.json`` into the run's directory.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from sempart_jax import command_line
from sempart_jax.checkpoints import Checkpoints, read_config
from sempart_jax.data.folder import benchmark_folders, find_pairs
from sempart_jax.experiment import build_experiment
from sempart_jax.prediction import Predictor, head_variables
from sempart_jax.scoring import FOREGROUND_RULES, Score, score_pairs
from sempart_jax.train_step import replicate

CROP_MARGIN = 335 / 320
"""Short side over side of the centre crop, as in the released evaluation (protocol crop320)."""


def evaluate(
    workdir: Path,
    datasets: Sequence[str],
    data_root: Path,
    *,
    foreground_rule: str = "batch",
    weights: str | None = None,
) -> dict[str, dict[str, Score]]:
    """Score the fine mask of a run before and after the guided filter.

    The image is scaled and cropped in the middle to the side that the run was trained at. The best
    checkpoint by validation is taken where there is one, the last one otherwise.

    Args:
        workdir: directory of the run.
        datasets: names that ``benchmark_folders`` knows.
        data_root: folder that holds the data sets as their authors lay them out.
        foreground_rule: see ``sempart_jax.scoring.choose_foreground``.
        weights: file of the backbone's weights, where it is not where the run found it.

    Returns:
        Scores by data set and kind of mask.

    Raises:
        FileNotFoundError: if there is no run, checkpoint or data set.
        ValueError: if a name is unknown, or no image of a set can be read.
    """
    config = read_config(workdir)
    if weights is not None:
        config.backbone.weights = weights
    pairs = {name: find_pairs(*benchmark_folders(name, data_root)) for name in datasets}
    experiment = build_experiment(config)
    size = config.data.image_size
    state = experiment.initial_state(config.seed, size)
    with (
        Checkpoints(workdir, name="best", best=True) as best,
        Checkpoints(workdir) as newest,
    ):
        state = (best if best.latest_step is not None else newest).restore(state)
    predictor = Predictor(experiment.segmenter, replicate(experiment.backbone_params))
    variables = head_variables(replicate(state))
    return {
        name: score_pairs(
            pairs[name],
            lambda images: predictor.full_size_masks(variables, images),
            image_size=size,
            resize_size=round(size * CROP_MARGIN),
            foreground_rule=foreground_rule,
        )
        for name in datasets
    }


def format_table(results: dict[str, dict[str, Score]]) -> str:
    """Lay the scores out as a Markdown table, a row a data set and kind of mask."""
    lines = ["| data set | images | mask | accuracy | IoU | max F |", "|---|---|---|---|---|---|"]
    for dataset, scores in results.items():
        lines += [
            f"| {dataset} | {score.images} | {name} "
            f"| {score.accuracy:.4f} | {score.iou:.4f} | {score.max_f_beta:.4f} |"
            for name, score in scores.items()
        ]
    return "\n".join(lines)


_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_DATASETS = flags.DEFINE_list("datasets", ["duts_te", "ecssd"], "Names of data sets.")
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "Folder that holds the data sets.")
_FOREGROUND_RULE = flags.DEFINE_enum(
    "foreground_rule", "batch", FOREGROUND_RULES, "Invert masks above one half by batch or image."
)
_WEIGHTS = flags.DEFINE_string("weights", None, "File of the backbone's weights, if it has moved.")


def _main() -> None:
    workdir = Path(_WORKDIR.value)
    results = evaluate(
        workdir,
        _DATASETS.value,
        Path(_DATA_ROOT.value),
        foreground_rule=_FOREGROUND_RULE.value,
        weights=_WEIGHTS.value,
    )
    print(format_table(results))
    plain = {
        dataset: {name: dataclasses.asdict(score) for name, score in scores.items()}
        for dataset, scores in results.items()
    }
    (workdir / "evaluation.json").write_text(
        json.dumps({"foreground_rule": _FOREGROUND_RULE.value, "scores": plain}, indent=2) + "\n"
    )


if __name__ == "__main__":
    command_line.run(_main)
