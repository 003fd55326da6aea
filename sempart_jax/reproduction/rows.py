"""From a row of the tables to the commands that give its numbers."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sempart_jax.data.boxed import BOXED_SETS
from sempart_jax.report.reproduction import (
    METHODS,
    RUN_POSTPROCESSINGS,
    STUDENTS,
    Run,
    computed_origin,
    postprocessings_of,
)
from sempart_jax.reproduction.data_sets import DataSets, digest
from sempart_jax.reproduction.evaluations import Evaluations
from sempart_jax.reproduction.module_commands import ModuleCommands
from sempart_jax.reproduction.trainings import Trainings

_PROTOCOLS = "crop320,native"


class Reproduction:
    """Runs what is needed for the tables, and keeps what it has found.

    Attributes:
        commands: what runs it, with what has failed and what was left out.
    """

    def __init__(
        self,
        *,
        data_root: Path,
        out: Path,
        predictions: Path | None = None,
        boxes: Path | None = None,
        found_decoder: Path | None = None,
        weights: Mapping[str, str] | None = None,
        train_args: Sequence[str] = (),
        method_args: Sequence[str] = (),
        train: bool = True,
        dry_run: bool = False,
    ) -> None:
        """Take the settings of the command line.

        Args:
            data_root: folder that holds the data sets.
            out: folder for runs, masks and reports.
            predictions: folder of given masks, ``METHOD/DATASET/*.png``.
            boxes: folder of given boxes, ``METHOD/DATASET.json``.
            found_decoder: file of FOUND's decoder; without it one is trained.
            weights: files of weights by backbone; others are downloaded.
            train_args: further arguments of every training.
            method_args: further arguments of every evaluation of a method over a frozen backbone.
            train: whether to train; else what is trained already is taken.
            dry_run: whether commands are only shown.
        """
        self._out, self._data = out, DataSets(data_root)
        self._predictions, self._boxes, self._found_decoder = predictions, boxes, found_decoder
        self._weights, self._method_args = weights or {}, method_args
        self.commands = ModuleCommands(dry_run=dry_run)
        self._trainings = Trainings(
            self.commands,
            self._data,
            out=out,
            weights=self._weights,
            train_args=train_args,
            train=train,
        )
        self._evaluations = Evaluations(self.commands, data_root=data_root, out=out)

    @property
    def results(self) -> Mapping[str, Mapping[str, Any]]:
        """See :attr:`Evaluations.results`."""
        return self._evaluations.results

    def look_at_data(self, names: Iterable[str]) -> None:
        """Say what is missing before the first training starts, which may take days.

        Args:
            names: keys of data sets.
        """
        for name in names:
            self._data.images(name)

    def score(self, key: Run | str, wanted: Sequence[str]) -> None:
        """Do all for the rows of a run or of another method, see ``report.reproduction.needed``.

        Of another method, given masks and boxes come first. What is not given of a data set is
        computed, where that can be done here.

        Args:
            key: a run, or the folder of another method's given masks.
            wanted: keys of the data sets that it is scored on.
        """
        if isinstance(key, Run):
            self._score_run(key, wanted)
        elif missing := self._score_given(key, wanted):
            if key in METHODS:
                self._score_method(key, missing)
            elif key in STUDENTS:
                self._score_student(key, missing)
            else:
                self.commands.leave_out(
                    f"{key}: no saved masks (PREDICTIONS/{key}/DATASET/*.png) or boxes "
                    f"(BOXES/{key}/DATASET.json) are given of {', '.join(missing)}"
                )

    def _score_run(self, run: Run, wanted: Sequence[str]) -> None:
        of = self._trainings.run(run, wanted)
        if of is not None:
            options = {"protocols": "crop320", "postprocessings": ",".join(RUN_POSTPROCESSINGS)}
            source = ["--workdir", str(self._out / run.name)]
            self._evaluations.score(run.name, source, wanted, self._data.images, options, of=of)

    def _score_given(self, method: str, wanted: Sequence[str]) -> list[str]:
        """Score given masks and boxes, and list the data sets that there are none of."""
        masked: list[str] = []
        boxed: list[str] = []
        if self._predictions is not None:
            masks = self._predictions / method
            masked = [name for name in wanted if (masks / name).is_dir()]
            if masked:
                source = ["--predictions", str(masks)]
                identify = functools.partial(self._data.identify_masks, masks)
                origin, options = f"masks/{method}", _options(method)
                self._evaluations.score(origin, source, masked, identify, options)
        for name in wanted:
            file = self._boxes and self._boxes / method / f"{name}.json"
            if file is not None and name in BOXED_SETS and file.is_file():
                boxed.append(name)
                source, origin = ["--boxes", str(file)], f"boxes/{method}/{name}"
                identify = functools.partial(self._data.identify_boxes, file)
                self._evaluations.score(origin, source, [name], identify, {})
        return [name for name in wanted if name not in {*masked, *boxed}]

    def _score_method(self, key: str, wanted: Sequence[str]) -> None:
        method = METHODS[key]
        source = ["--method", method.name, "--backbone", method.backbone]
        if method.backbone in self._weights:
            source += ["--weights", self._weights[method.backbone]]
        of: str | None = ""
        if method.decoder is not None:
            decoder = self._found_decoder
            if decoder is None:
                decoder = self._out / method.decoder
                of = self._trainings.found(method.decoder, wanted)
            else:
                of = digest(decoder.read_bytes())
            source += ["--decoder", str(decoder)]
        if of is not None:
            source += self._method_args
            origin, options = computed_origin(key), _options(key)
            self._evaluations.score(origin, source, wanted, self._data.images, options, of=of)

    def _score_student(self, key: str, wanted: Sequence[str]) -> None:
        of = self._trainings.student(key, STUDENTS[key], wanted)
        if of is not None:
            # SelfMask chooses its foreground itself, by the ranking of its queries.
            options = _options(key) | {"foreground_rule": "none"}
            source = ["--workdir", str(self._out / key)]
            origin = computed_origin(key)
            self._evaluations.score(origin, source, wanted, self._data.images, options, of=of)


def _options(method: str) -> dict[str, str]:
    return {"protocols": _PROTOCOLS, "postprocessings": ",".join(postprocessings_of(method))}
