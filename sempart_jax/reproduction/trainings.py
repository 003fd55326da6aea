"""Trainings behind the tables, each run once, and the masks that some of them learn from."""

import argparse
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from sempart_jax.data.segment_products import MARKER
from sempart_jax.models.pretrained import HUB_REPOSITORIES
from sempart_jax.recorded_commands import Record, read_record, reason_to_run
from sempart_jax.report.reproduction import DEFAULT_BACKBONE, Run, Student
from sempart_jax.reproduction.data_sets import DataSets, digest
from sempart_jax.reproduction.module_commands import ModuleCommands
from sempart_jax.training.run_record import is_complete

TRAINED = "trained.json"
"""Record of a training in its folder: its command, and whether it was finished."""
SEGMENTED = "segmented.json"
"""The same of a folder of pseudo-masks."""
PSEUDO_MASKS = "pseudo_masks"
"""Folder of all pseudo-masks, and what identifies them in the record of a training."""
_BACKBONE_FLAG = "--config.backbone."
_IMAGES_FLAG = "--config.data.train"


@dataclasses.dataclass(frozen=True)
class _Training:
    """A training before it starts.

    Attributes:
        name: name of its folder under OUT.
        path: file of its record.
        arguments: its command line.
        record: what the last time has left.
        obstacle: why it cannot be started, if so.
    """

    name: str
    path: Path
    arguments: Sequence[str]
    record: Record | None
    obstacle: str | None

    @property
    def line(self) -> str:
        """The command line in one piece: all that the run follows from."""
        return shlex.join(self.arguments)

    @property
    def settings(self) -> dict[str, str]:
        """What its record is compared by."""
        return {"arguments": self.line}


class Trainings:
    """Trains to the end what is not trained yet.

    Each method returns the command line of the training, of which whatever is made with the run
    follows; ``None`` if there is no trained run, the reason of which has been told.
    """

    def __init__(
        self,
        commands: ModuleCommands,
        data: DataSets,
        *,
        out: Path,
        weights: Mapping[str, str],
        train_args: Sequence[str],
        train: bool,
    ) -> None:
        """Take what all trainings share.

        Args:
            commands: what runs them.
            data: data sets; DUTS among them is trained on.
            out: folder of the runs.
            weights: files of weights by backbone; others are downloaded.
            train_args: further arguments of every training.
            train: whether to train at all.
        """
        self._commands, self._data, self._out = commands, data, out
        self._weights, self._train_args, self._train = weights, train_args, train
        self._attempted: dict[Run, str | None] = {}

    def run(self, run: Run, wanted: Sequence[str]) -> str | None:
        """Train a run.

        Args:
            run: which one.
            wanted: data sets that it is to be scored on; without any there is no use in it.
        """
        if run not in self._attempted:
            training = self._plan(run.name, run.arguments, wanted, run.backbone)
            self._attempted[run] = self._take(training)
        return self._attempted[run]

    def found(self, name: str, wanted: Sequence[str]) -> str | None:
        """Train the decoder of FOUND.

        Args:
            name: name of its folder.
            wanted: see :meth:`run`.
        """
        return self._take(self._plan(name, ["--config", "configs/found.py"], wanted))

    def student(self, name: str, student: Student, wanted: Sequence[str]) -> str | None:
        """Train SelfMask on the masks of a run, which is trained, and segments, before it.

        Args:
            name: name of its folder.
            student: whose masks it learns from.
            wanted: see :meth:`run`.
        """
        teacher = student.teacher.name
        of = self.run(student.teacher, wanted)
        if of is None:
            reason = f"the run {teacher}, whose masks it learns from, is not trained"
            self._commands.leave_out(f"run {name}: {reason}")
            return None
        # Masks of another run are others: they get a folder of their own.
        masks = self._out / PSEUDO_MASKS / f"{teacher}-{digest(of.encode())[:8]}"
        chosen = ["--config", "configs/selfmask.py", f"--config.pseudo_masks={masks}"]
        training = self._plan(name, chosen, wanted)
        if training.obstacle or not reason_to_run(training.record, training.settings):
            return self._take(training)
        if not self._segment(student, masks, of):
            self._commands.leave_out(f"run {name}: the masks of {teacher} are not made")
            return None
        contents = _identify(masks)
        if contents and self._has_learned_otherwise(training, contents):
            self._commands.leave_out(
                f"run {name}: it has learned from other masks than {teacher} gives now: remove "
                f"{training.path.parent} to train it anew"
            )
            return None
        return self._take(training, contents)

    def _plan(
        self,
        name: str,
        chosen: Sequence[str],
        wanted: Sequence[str],
        backbone: str = DEFAULT_BACKBONE,
    ) -> _Training:
        folder = self._out / name
        arguments = [
            *chosen,
            "--workdir",
            str(folder),
            f"{_IMAGES_FLAG}={self._data.root / 'DUTS'}",
        ]
        weights = self._weights.get(backbone)
        if weights is not None:
            arguments.append(f"--config.backbone.weights={weights}")
        arguments += self._train_args
        has_weights = weights or any(word.startswith(_BACKBONE_FLAG) for word in self._train_args)
        obstacle = None
        if not any(self._data.images(dataset) for dataset in wanted):
            obstacle = f"none of {', '.join(wanted)} is there"
        elif backbone not in HUB_REPOSITORIES and not has_weights:
            obstacle = f"no download has its weights: give --weights {backbone}=PATH"
        elif not self._train:
            obstacle = "it is not trained so, and --notrain was given"
        path = folder / TRAINED
        return _Training(name, path, arguments, read_record(path), obstacle)

    def _take(self, training: _Training, contents: Mapping[str, str] | None = None) -> str | None:
        """Run a training unless its record holds."""
        record, settings = training.record, training.settings
        if training.obstacle and reason_to_run(record, settings, contents):
            self._commands.leave_out(f"run {training.name}: {training.obstacle}")
            return None
        done = self._commands.run_module(
            "train",
            training.arguments,
            training.path,
            record,
            settings,
            contents,
            lambda: is_complete(training.path.parent),
        )
        return training.line if done else None

    def _segment(self, student: Student, masks: Path, of: str) -> bool:
        """Write the masks of the training images, and say whether they are there."""
        teacher = student.teacher.name
        arguments = [training_images(shlex.split(of)), "--workdir", str(self._out / teacher)]
        arguments += ["--out", str(masks), "--outputs", "mask", "--refine", student.refine]
        path, settings = masks / SEGMENTED, {"arguments": shlex.join(arguments), "of": of}
        return self._commands.run_module("segment", arguments, path, read_record(path), settings)

    @staticmethod
    def _has_learned_otherwise(training: _Training, contents: Mapping[str, str]) -> bool:
        # The record alone may be of a training that has failed before it began.
        has_begun = (training.path.parent / "config.json").is_file()
        before = (training.record or {}).get("contents", {})
        return has_begun and before != contents


def _identify(masks: Path) -> dict[str, str] | None:
    """Identify pseudo-masks by the network and the settings of the command that has made them."""
    marker = masks / MARKER
    return {PSEUDO_MASKS: digest(marker.read_bytes())} if marker.is_file() else None


def training_images(arguments: Sequence[str]) -> str:
    """Read out of a training's command line which images it takes: those named last.

    Args:
        arguments: a command line that names them.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(_IMAGES_FLAG, dest="images")
    images: str = parser.parse_known_args(arguments)[0].images
    return images
