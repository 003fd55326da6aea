"""The stages that make the built-in model and its scores, each run once."""

import dataclasses
import functools
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sempart_jax import __version__, builtin_model
from sempart_jax.atomic_write import write_atomically
from sempart_jax.model_file import write_model
from sempart_jax.models.names import RANDOM_WEIGHTS
from sempart_jax.models.pretrained import BACKBONE_FILE
from sempart_jax.recorded_commands import read_record
from sempart_jax.report.builtin_scores import DATASETS, Scored
from sempart_jax.reproduction.data_sets import DataSets, digest
from sempart_jax.reproduction.evaluations import Evaluations
from sempart_jax.reproduction.module_commands import ModuleCommands
from sempart_jax.reproduction.trainings import TRAINED
from sempart_jax.trained_network import load_trained
from sempart_jax.training.run_record import is_complete

STAGES = ("pretrain", "train", "export", "evaluate")
"""Methods of :class:`BuiltinModel`, in their order."""
BACKBONE = "vit_tiny8"
PRETRAINED = "backbone"
"""Folder of the pretraining under OUT."""
VARIANTS = {"baseline": "Sempart, baseline", "tricks": "Sempart, both tricks"}
"""What is trained over it: configurations, which name the folders under OUT, and their titles."""
MODEL_FILES = {"baseline": "baseline.safetensors", "tricks": builtin_model.FILE}
"""Networks in files of their own under OUT; that of both tricks is the built-in model."""

_IMAGE_SIZE = 128
_FILTER_RADIUS = 4  # 9 at 320 px, in proportion
_LEARNING_RATE, _BATCH_SIZE = 1e-4, 8  # of the paper
_OPTIONS = {"protocols": "native", "postprocessings": "none,guided"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the model follows from.

    Attributes:
        images: folder of the images that backbone and heads are trained on.
        epochs: of the pretraining.
        batch_size: of the pretraining.
        head_epochs: of each head.
        head_batch_size: of each head.
        dtype: of the backbone's matrix products while training.
        pretrain_args: further arguments of the pretraining.
        train_args: further arguments of both trainings.
    """

    images: Path
    epochs: int = 400
    batch_size: int = 256
    head_epochs: int = 30
    head_batch_size: int = 32
    dtype: str = "float32"
    pretrain_args: Sequence[str] = ()
    train_args: Sequence[str] = ()

    def pretraining(self, out: Path) -> list[str]:
        """Return the command line of the pretraining, which writes below a folder."""
        return [
            *("--config", "configs/dino_pretrain.py", "--workdir", str(out / PRETRAINED)),
            f"--config.data.train={self.images}",
            f"--config.backbone.name={BACKBONE}",
            f"--config.backbone.dtype={self.dtype}",
            f"--config.epochs={self.epochs}",
            f"--config.batch_size={self.batch_size}",
            *self.pretrain_args,
        ]

    def training(self, variant: str, out: Path) -> list[str]:
        """Return the command line that trains a head; ``variant`` is of :data:`VARIANTS`."""
        # Adam's learning rate goes with the square root of the batch (arXiv 2205.10287).
        learning_rate = _LEARNING_RATE * math.sqrt(self.head_batch_size / _BATCH_SIZE)
        return [
            *("--config", f"configs/{variant}.py", "--workdir", str(out / variant)),
            f"--config.data.train={self.images}",
            f"--config.data.image_size={_IMAGE_SIZE}",
            f"--config.data.resize_size={_IMAGE_SIZE}",
            f"--config.guided_filter.radius={_FILTER_RADIUS}",
            f"--config.backbone.name={BACKBONE}",
            f"--config.backbone.weights={out / PRETRAINED}",
            f"--config.backbone.dtype={self.dtype}",
            f"--config.epochs={self.head_epochs}",
            f"--config.batch_size={self.head_batch_size}",
            f"--config.optimizer.learning_rate={learning_rate:.3g}",
            *self.train_args,
        ]


class _Candidate(NamedTuple):
    """What is scored.

    Attributes:
        name: begins the name of its folder.
        title: what it is.
        source: flags of the evaluation that choose it.
        file: what its masks follow from, if that is a file.
    """

    name: str
    title: str
    source: Sequence[str]
    file: Path | None = None

    def is_there(self) -> bool:
        return self.file is None or self.file.is_file()

    def origin(self, resolution: int) -> str:
        return f"{self.name}_{resolution}"


class BuiltinModel:
    """Runs the stages; each takes from the disk what those before it have left there."""

    def __init__(
        self,
        commands: ModuleCommands,
        recipe: Recipe,
        *,
        out: Path,
        data_root: Path,
        resolutions: Sequence[int],
    ) -> None:
        """Take the settings of the command line.

        Args:
            commands: what runs them.
            recipe: what the model follows from.
            out: folder of runs, model files and scores.
            data_root: folder that holds the labelled data sets.
            resolutions: short sides in pixels at which everything is scored; the built-in model
                sees images at the first one, unless it is told another.
        """
        self._commands, self._recipe, self._out = commands, recipe, out
        self._data, self._resolutions = DataSets(data_root), resolutions
        self._evaluations = Evaluations(commands, data_root=data_root, out=out / "scores")

    def pretrain(self) -> bool:
        """Pretrain the backbone, and say whether that is done."""
        return self._train("pretrain", PRETRAINED, self._recipe.pretraining(self._out), {})

    def train(self) -> bool:
        """Train both heads, and say whether that is done."""
        if not self._is_trained(PRETRAINED):
            return False
        # Another backbone is another training, though the command line is the same.
        of = _identify(self._out / PRETRAINED / BACKBONE_FILE)
        trainings = {name: self._recipe.training(name, self._out) for name in VARIANTS}
        done = [self._train("train", name, line, {"of": of}) for name, line in trainings.items()]
        return all(done)

    def export(self) -> bool:
        """Write each trained network as a model file in bfloat16, and say whether that is done.

        Raises:
            ValueError: if a file is larger than ``builtin_model.LARGEST``; it is not kept.
        """
        trained = [self._is_trained(name) for name in VARIANTS]
        if not all(trained):
            return False
        for name, title in () if self._commands.dry_run else VARIANTS.items():
            export_network(
                self._out / MODEL_FILES[name],
                self._out / name,
                weights=self._out / PRETRAINED,
                short_side=self._resolutions[0],
                title=title,
            )
        return True

    def evaluate(self) -> bool:
        """Score everything that is there, and say whether that is all."""
        before = len(self._commands.failures) + len(self._commands.left_out)
        for candidate in self._candidates():
            if candidate.is_there() or self._commands.dry_run:
                for resolution in self._resolutions:
                    self._score(candidate, resolution)
            else:
                self._commands.leave_out(f"{candidate.title}: there is no {candidate.file}")
        return len(self._commands.failures) + len(self._commands.left_out) == before

    @property
    def scored(self) -> list[Scored]:
        """What :meth:`evaluate` has found, in the order of the table."""
        found = self._evaluations.results
        return [
            Scored(candidate.title, resolution, found[origin]["saliency"])
            for candidate in self._candidates()
            for resolution in self._resolutions
            if (origin := candidate.origin(resolution)) in found
        ]

    def _candidates(self) -> list[_Candidate]:
        tokencut = ["--method", "tokencut", "--backbone"]
        own, run = [*tokencut, BACKBONE, "--weights"], self._out / PRETRAINED
        return [
            _Candidate("handcrafted", "TokenCut, colour and texture", [*tokencut, "handcrafted"]),
            _Candidate("random", "TokenCut, random ViT-Ti/8", [*own, RANDOM_WEIGHTS]),
            _Candidate(
                "pretrained", "TokenCut, pretrained ViT-Ti/8", [*own, str(run)], run / BACKBONE_FILE
            ),
            *(
                _Candidate(name, title, ["--workdir", str(file)], file)
                for name, title in VARIANTS.items()
                if (file := self._out / MODEL_FILES[name])
            ),
        ]

    def _score(self, candidate: _Candidate, resolution: int) -> None:
        self._evaluations.score(
            candidate.origin(resolution),
            [*candidate.source, "--resolution", str(resolution)],
            DATASETS,
            self._data.images,
            _OPTIONS,
            of=_identify(candidate.file),
        )

    def _train(
        self, module: str, name: str, arguments: Sequence[str], settings: dict[str, str]
    ) -> bool:
        folder = self._out / name
        return self._commands.run_module(
            module,
            arguments,
            folder / TRAINED,
            read_record(folder / TRAINED),
            {"arguments": shlex.join(arguments), **settings},
            is_complete=functools.partial(is_complete, folder),
        )

    def _is_trained(self, name: str) -> bool:
        if self._commands.dry_run or is_complete(self._out / name):
            return True
        self._commands.leave_out(f"what needs {self._out / name}, which is not trained to its end")
        return False


def export_network(path: Path, run: Path, *, weights: Path, short_side: int, title: str) -> None:
    """Write a run's network in bfloat16, for computation in float32, which any machine does fast.

    Args:
        path: file to write.
        run: directory of the run.
        weights: of its backbone.
        short_side: short side in pixels at which it is to see images.
        title: what it is.

    Raises:
        ValueError: if the file is larger than ``builtin_model.LARGEST``; it is not kept.
    """
    network = dataclasses.replace(
        load_trained(run, weights=weights),
        short_side=short_side,
        dtype="float32",
        head_dtype="float32",
        origin=f"{title}, over a {BACKBONE} pretrained by DINO; sempart_jax {__version__}",
    )
    write_model(path, network, dtype="bfloat16")
    size = path.stat().st_size
    if size > builtin_model.LARGEST:
        path.unlink()
        raise ValueError(
            f"{path} would have {size:,} bytes, and a built-in model has {builtin_model.LARGEST:,} "
            "at most: train a smaller network"
        )


def install(model: Path) -> Path:
    """Copy a model file into the package, as its built-in model, and return where it is.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    target = builtin_model.FOLDER / builtin_model.FILE
    write_atomically(target, model.read_bytes())
    return target


def _identify(file: Path | None) -> str:
    return digest(file.read_bytes()) if file is not None and file.is_file() else ""
