"""What stands behind each row of the published tables: a run, a method, or saved masks or boxes.

The paper is *Two Tricks to Improve Unsupervised Segmentation Learning* (arXiv 2404.03392). A row is
either of a run that is trained here, or of another method: its saved masks or boxes, or, where
there are none, what can be computed of it here.
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
"""Key of each other method, which is the folder of its saved masks or boxes."""
_METHODS_FOLDER = "methods"
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


@dataclasses.dataclass(frozen=True)
class FrozenMethod:
    """A method over a frozen backbone.

    Attributes:
        name: key in ``baselines.methods.METHODS``.
        backbone: key of the backbone.
        decoder: name of the run whose decoder it takes, if it has one.
    """

    name: str
    backbone: str = DEFAULT_BACKBONE
    decoder: str | None = None


METHODS = {
    # Their authors' settings: the published numbers of LOST and TokenCut are over patches of 16.
    "lost": FrozenMethod("lost", "dino_vits16"),
    "deep_spectral": FrozenMethod("deep_spectral"),
    "tokencut": FrozenMethod("tokencut", "dino_vits16"),
    "found": FrozenMethod("found_single", decoder="found"),
}
"""Other methods that are computed here without their masks, by their key."""


@dataclasses.dataclass(frozen=True)
class Student:
    """SelfMask, trained on the masks of a run.

    Attributes:
        teacher: the run.
        refine: what is done to its masks, as in its own row of Table 1.
    """

    teacher: Run
    refine: str


STUDENTS = {
    "selfmask_baseline": Student(Run("baseline", DEFAULT_BACKBONE), "none"),
    "selfmask_tricks": Student(Run("tricks", DEFAULT_BACKBONE), "guided"),
}
"""Other methods that are trained on a run, by their key."""


def run_of(row: PublishedRow) -> Run | None:
    """Find the training behind a published row.

    The guided filter of an ablation (Table 3, "GF") is post-processing of the masks of the run
    beside it; "Crop" with it is the full method, whose teacher is filtered in training too.

    Args:
        row: a line of a published table.

    Returns:
        The run; ``None`` if it is of another method.
    """
    if row.evaluator != "paper" or row.crop is None:
        return None
    backbone = row.backbone or DEFAULT_BACKBONE
    if not row.crop:
        return Run("baseline", backbone)
    return Run("crop" if row.postprocessing == "none" else "tricks", backbone)


def key_of(row: PublishedRow) -> Run | str:
    """Return the run behind a published row, or the key of its other method."""
    return run_of(row) or SAVED_FOLDERS[row.method]


def computed_origin(key: str) -> str:
    """Name the folder of the evaluation of another method that is computed here.

    Args:
        key: a key of :data:`METHODS` or :data:`STUDENTS`, which is the student's own folder.
    """
    return key if key in STUDENTS else f"{_METHODS_FOLDER}/{key}"


def postprocessings_of(method: str) -> tuple[str, ...]:
    """List the post-processings that the rows of another method need, in the order of scoring."""
    wanted = {row.postprocessing for row in ROWS if key_of(row) == method}
    return tuple(name for name in POSTPROCESSINGS if name in {"none", *wanted})


def needed(tables: Sequence[int], datasets: Sequence[str]) -> dict[Run | str, tuple[str, ...]]:
    """List what has to be scored for some tables, in the order of their rows.

    Args:
        tables: numbers of tables.
        datasets: keys of the data sets that are asked for.

    Returns:
        Data sets by run, or by key of another method.
    """
    found: dict[Run | str, set[str]] = {}
    for table in tables:
        for row in find_rows(table=table):
            found.setdefault(key_of(row), set()).update(set(row.scores) & set(datasets))
    return {
        key: tuple(name for name in DATASETS if name in wanted)
        for key, wanted in found.items()
        if wanted
    }


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Where our number beside a published one may stand.

    Attributes:
        origin: folder of the evaluation: a run's name, ``methods/NAME``, ``masks/NAME`` or
            ``boxes/NAME/DATASET``.
        protocol: protocol of the evaluation.
    """

    origin: str
    protocol: str

    @property
    def over_frozen(self) -> bool:
        """Say whether it is of a method that is computed here over a frozen backbone."""
        return self.origin.startswith(f"{_METHODS_FOLDER}/")


def candidates(row: PublishedRow, dataset: str) -> tuple[Candidate, ...]:
    """List where our numbers for a row are to be found.

    Masks of other methods are looked at under both protocols: the paper does not say which one the
    numbers that it carried over are of.

    Args:
        row: a line of a published table.
        dataset: key of one of its data sets.
    """
    boxed, key = dataset in LOCALIZATION_DATASETS, key_of(row)
    if isinstance(key, Run):
        return (Candidate(key.name, "native" if boxed else "crop320"),)
    origins = [f"masks/{key}"]
    if key in METHODS or key in STUDENTS:
        origins.append(computed_origin(key))
    if boxed:
        in_masks = (Candidate(origin, "native") for origin in origins)
        return Candidate(f"boxes/{key}/{dataset}", "boxes"), *in_masks
    protocols = ("crop320", "native") if row.evaluator == "paper" else ("native", "crop320")
    return tuple(Candidate(origin, protocol) for origin in origins for protocol in protocols)
