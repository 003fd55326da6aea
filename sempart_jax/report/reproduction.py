"""What stands behind each row of the published tables: a run, or saved masks or boxes.

The paper is *Two Tricks to Improve Unsupervised Segmentation Learning* (arXiv 2404.03392). A row is
either of a run that is trained here, or of a method whose masks or boxes somebody has saved.
"""

import dataclasses
from collections.abc import Sequence

from sempart_jax.postprocessing import POSTPROCESSINGS
from sempart_jax.report.published import (
    LOCALIZATION_DATASETS,
    ROWS,
    SALIENCY_DATASETS,
    PublishedRow,
    find_rows,
)

TABLES = (1, 2, 3, 4, 5)
DATASETS = (*SALIENCY_DATASETS, *LOCALIZATION_DATASETS)
DEFAULT_BACKBONE = "dino_vits8"
RUN_POSTPROCESSINGS = ("none", "guided", "bilateral")
"""How the masks of every run are scored; no row of a run needs another."""
SAVED_FOLDERS = {
    "LOST": "lost",
    "Deep Spectral": "deep_spectral",
    "TokenCut": "tokencut",
    "FOUND (single)": "found",
    "MOVE": "move",
    "Sempart": "sempart",
    "SelfMask on MOVE": "selfmask_move",
    "SelfMask on Sempart": "selfmask_sempart",
    "SelfMask on Sempart (re-implemented)": "selfmask_baseline",
    "SelfMask on two tricks": "selfmask_tricks",
}
"""Folder of the saved masks or boxes of each method that is not trained here."""
_OWN_CONFIGS = {("tricks", "dino_vits16"): "dino_vits16", ("tricks", "ibot_vits16"): "ibot_vits16"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A training behind rows of the tables.

    Attributes:
        variant: ``baseline``, ``crop`` (trick 2, its teacher unfiltered) or ``tricks``.
        backbone: key of the backbone.
    """

    variant: str
    backbone: str

    @property
    def name(self) -> str:
        """Name of its working directory."""
        own = "" if self.backbone == DEFAULT_BACKBONE else f"_{self.backbone}"
        return self.variant + own

    @property
    def arguments(self) -> list[str]:
        """Arguments of the training that choose configuration and backbone."""
        config = _OWN_CONFIGS.get((self.variant, self.backbone), self.variant)
        arguments = ["--config", f"configs/{config}.py"]
        if config == self.variant and self.backbone != DEFAULT_BACKBONE:
            arguments.append(f"--config.backbone.name={self.backbone}")
        return arguments


def run_of(row: PublishedRow) -> Run | None:
    """Find the training behind a published row.

    The guided filter of an ablation (Table 3, "GF") is post-processing of the masks of the run
    beside it; "Crop" with it is the full method, whose teacher is filtered in training too.

    Args:
        row: a line of a published table.

    Returns:
        The run; ``None`` if the method is not trained here.
    """
    if row.evaluator != "paper" or row.crop is None:
        return None
    backbone = row.backbone or DEFAULT_BACKBONE
    if not row.crop:
        return Run("baseline", backbone)
    return Run("crop" if row.postprocessing == "none" else "tricks", backbone)


def saved_folder(row: PublishedRow) -> str | None:
    """Name the folder of saved masks behind a published row; ``None`` if it is of a run."""
    return SAVED_FOLDERS[row.method] if run_of(row) is None else None


def saved_postprocessings(folder: str) -> tuple[str, ...]:
    """List the post-processings that the rows of a saved method need, in the order of scoring."""
    wanted = {row.postprocessing for row in ROWS if saved_folder(row) == folder}
    return tuple(name for name in POSTPROCESSINGS if name in {"none", *wanted})


def needed(tables: Sequence[int], datasets: Sequence[str]) -> dict[Run | str, tuple[str, ...]]:
    """List what has to be scored for some tables, in the order of their rows.

    Args:
        tables: numbers of tables.
        datasets: keys of the data sets that are asked for.

    Returns:
        Data sets by run, or by folder of saved masks.
    """
    found: dict[Run | str, set[str]] = {}
    for table in tables:
        for row in find_rows(table=table):
            key = run_of(row) or SAVED_FOLDERS[row.method]
            found.setdefault(key, set()).update(set(row.scores) & set(datasets))
    return {
        key: tuple(name for name in DATASETS if name in wanted)
        for key, wanted in found.items()
        if wanted
    }


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Where our number beside a published one may stand.

    Attributes:
        origin: folder of the evaluation: a run's name, ``masks/NAME`` or ``boxes/NAME/DATASET``.
        protocol: protocol of the evaluation.
    """

    origin: str
    protocol: str


def candidates(row: PublishedRow, dataset: str) -> tuple[Candidate, ...]:
    """List where our numbers for a row are to be found.

    Masks of others are looked at under both protocols: the paper does not say which one the
    numbers that it carried over are of.

    Args:
        row: a line of a published table.
        dataset: key of one of its data sets.
    """
    boxed, run, folder = dataset in LOCALIZATION_DATASETS, run_of(row), saved_folder(row)
    if run is not None:
        return (Candidate(run.name, "native" if boxed else "crop320"),)
    masks = f"masks/{folder}"
    if boxed:
        return Candidate(f"boxes/{folder}/{dataset}", "boxes"), Candidate(masks, "native")
    protocols = ("crop320", "native") if row.evaluator == "paper" else ("native", "crop320")
    return tuple(Candidate(masks, protocol) for protocol in protocols)
