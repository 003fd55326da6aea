"""Checkpoints of a run, by orbax, and whether they are still what was saved.

A working directory holds ``checkpoints/<step>/`` and, where a validation set is named,
``best/<step>/``. A checkpoint is written beside its final name and renamed when complete, so that
one which was cut off is never read. With it go fingerprints of what it holds, one for each field of
the state, so that a part can be read by itself: neither orbax nor the format under it notices a
flipped bit.
"""

import dataclasses
import json
import os
import re
import shutil
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from sempart_jax.host.errors import WriteError, writing
from sempart_jax.kernels.tensor_tree import fingerprint_params

_FINGERPRINTS, _SCORE = "fingerprints", "score"
_ARRAYS, _DESCRIPTION, _UNFINISHED = "default", "_CHECKPOINT_METADATA", ".orbax-checkpoint-tmp"
"""What orbax calls them."""
_LONGEST_REASON = 200


@runtime_checkable
class SteppedState(Protocol):
    """Everything that a training step changes: a dataclass whose fields are trees of arrays."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def step(self) -> Any:
        """Number of steps taken, int32 array."""


State = TypeVar("State", bound=SteppedState)


class DamagedCheckpointError(ValueError):
    """A checkpoint does not hold what was saved."""


class Checkpoints:
    """The newest, or the best, states of a run, written in the background.

    Of several processes of a run, only one writes; whoever reads or writes waits for no other. Use
    as a context manager: leaving it waits for what is being written.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        name: str = "checkpoints",
        keep: int = 3,
        best: bool = False,
        read_only: bool = False,
    ) -> None:
        """Open a directory of checkpoints.

        Args:
            workdir: directory of the run.
            name: directory below ``workdir``.
            keep: number of checkpoints that stay.
            best: keep those of the highest score instead of the newest.
            read_only: touch nothing. Otherwise the directory is made if absent, what a killed
                process has left unfinished is removed, and one of the best that has lost its score
                is renamed ``<step>.damaged``, with a warning.

        Raises:
            WriteError: if the directory cannot be made.
        """
        self.directory = Path(workdir).resolve() / name
        self._best, self._keep, self._read_only = best, keep, read_only
        self._being_written: int | None = None
        if not read_only:
            with writing(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
                for unfinished in self.directory.glob(f"*{_UNFINISHED}*"):
                    shutil.rmtree(unfinished)
                self._set_aside_without_score()
        alone = _this_process()
        handler = ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
            **{_ARRAYS: ocp.StandardCheckpointHandler(multiprocessing_options=alone)},
        )
        self._writer = ocp.AsyncCheckpointer(handler, multiprocessing_options=alone)

    def __enter__(self) -> "Checkpoints":
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        """Wait for pending writes and close."""
        # Of two errors the first is told: it is why the run ends.
        with suppress(WriteError) if error else nullcontext(), self._writing():
            self._writer.close()
            self._remove_all_but(self._keep)

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint that is complete or being written, or ``None``."""
        being_written = [] if self._being_written is None else [self._being_written]
        return max([*self._steps(), *being_written], default=None)

    def save(self, state: SteppedState, score: float | None = None) -> None:
        """Start to write a state, after the one before is complete; training may go on at once.

        Args:
            state: unreplicated state. A step that is on disk already is not written again.
            score: what the best checkpoints are chosen by.

        Raises:
            WriteError: if this state or the one before cannot be written. Older checkpoints stay.
        """
        self.wait()
        step = int(state.step)
        if step in self._steps():
            return
        with self._writing():
            # Or orbax would make it again, with nothing else of the run beside it.
            if not self.directory.is_dir():
                raise FileNotFoundError("the directory has been removed")
            # With the new one they are as many as stay, but there is always one that is complete.
            self._remove_all_but(max(1, self._keep - 1))
            state = jax.device_get(state)
            fingerprints = {name: fingerprint_params(field) for name, field in vars(state).items()}
            self._being_written = step
            self._writer.save(
                self.directory / str(step),
                args=ocp.args.Composite(**{_ARRAYS: ocp.args.StandardSave(state)}),
                custom_metadata={_FINGERPRINTS: fingerprints, _SCORE: score},
            )

    def wait(self) -> None:
        """Wait until all is written."""
        with self._writing():
            self._writer.wait_until_finished()
        self._being_written = None

    def resume(self, like: State) -> State | None:
        """Read the newest checkpoint that is not damaged.

        Damaged ones that are newer are renamed ``<step>.damaged``, with a warning: training is
        going to write these steps again.

        Args:
            like: state of the same structure and shapes, such as a fresh one.

        Returns:
            State on the host; ``None`` if there is no checkpoint at all.

        Raises:
            DamagedCheckpointError: if all checkpoints are damaged.
            WriteError: if a damaged one cannot be renamed.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self._steps()):
            try:
                state = self.restore(like, step)
            except DamagedCheckpointError as error:
                damaged[step] = str(error)
                continue
            for newer, reason in damaged.items():
                aside = move_aside(self.directory / str(newer))
                logging.warning("%s. Renamed to %s; continuing from step %d", reason, aside, step)
            return state
        if damaged:
            listed = "\n  ".join(damaged.values())
            raise DamagedCheckpointError(
                f"no checkpoint in {self.directory} can be read:\n  {listed}\n"
                "Restore one from a backup, or start again in another --workdir."
            )
        return None

    def restore(self, like: State, step: int | None = None) -> State:
        """Read a checkpoint as a whole, see :meth:`restore_fields`."""
        _, fields = self.restore_fields(vars(like), step)
        return dataclasses.replace(like, **fields)

    def restore_fields(
        self, shapes: Mapping[str, Any], step: int | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Read some fields of the state of a checkpoint, and no other from the disk.

        Args:
            shapes: names of the fields, and trees of what has the shapes and types of their arrays.
            step: which; by default the newest, or the best where the best are kept.

        Returns:
            The step, and the fields on the host.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            DamagedCheckpointError: if these fields do not hold what was saved. In a checkpoint from
                before each field had a fingerprint that is only noticed where its files cannot be
                read.
        """
        step = self._existing(step)
        abstract = {
            name: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
            for name, tree in shapes.items()
        }
        arguments = ocp.args.PyTreeRestore(
            item=abstract,
            restore_args=jax.tree.map(
                lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), abstract
            ),
            partial_restore=True,
        )
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_this_process())
        folder = self.directory / str(step) / _ARRAYS
        try:
            fingerprints = dict(self._noted(step).get(_FINGERPRINTS, {}))
            stored = handler.metadata(folder).tree
            # Orbax leaves an array as it is asked for where there is none of its name.
            if _shapes({name: stored[name] for name in abstract}) != _shapes(abstract):
                raise ValueError("its arrays do not match the network")
            fields = dict(handler.restore(folder, args=arguments))
        except MemoryError:
            raise
        # Of damaged files orbax raises whatever stumbles over them first.
        except Exception as error:
            raise self._damaged(step, one_line(error)) from error
        for name in fields.keys() & fingerprints.keys():
            if fingerprint_params(fields[name]) != fingerprints[name]:
                raise self._damaged(step, "its contents have changed since it was saved")
        return step, fields

    def _steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def _existing(self, step: int | None) -> int:
        steps = self._steps()
        if step is None and steps:
            step = max(steps, key=self._rank)
        if step is None or step not in steps:
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"{wanted} in {self.directory}")
        return step

    def _rank(self, step: int) -> tuple[float, int]:
        """By what a checkpoint stays, and is taken; DamagedCheckpointError if that is lost."""
        if not self._best:
            return 0.0, step
        # Where older checkpoints have it.
        own = self.directory / str(step) / "metrics" / "metrics"
        try:
            noted = json.loads(own.read_text()) if own.exists() else self._noted(step)
            return float(noted[_SCORE]), step
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._damaged(
                step, f"it has lost its score. Choose a checkpoint in {self.directory} yourself"
            ) from error

    def _noted(self, step: int) -> dict[str, Any]:
        """Read what was noted of a checkpoint beside its arrays."""
        try:
            path = self.directory / str(step) / _DESCRIPTION
            noted = json.loads(path.read_text())["custom_metadata"]
            return {} if noted is None else dict(noted.items())
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError("its metadata is missing or damaged") from error

    def _set_aside_without_score(self) -> None:
        for step in self._steps():
            try:
                self._rank(step)
            except DamagedCheckpointError as error:
                aside = move_aside(self.directory / str(step))
                logging.warning("%s. Renamed to %s", error, aside)

    def _remove_all_but(self, count: int) -> None:
        if not self._read_only:
            for step in sorted(self._steps(), key=self._rank)[:-count]:
                # Half a checkpoint would be a damaged one.
                removed = self.directory / f"{step}{_UNFINISHED}"
                (self.directory / str(step)).rename(removed)
                shutil.rmtree(removed)

    def _damaged(self, step: int, reason: str) -> DamagedCheckpointError:
        return DamagedCheckpointError(f"{self.directory / str(step)} is damaged: {reason}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell what orbax raises when it cannot write, which need not be an ``OSError``."""
        with writing(self.directory):
            try:
                yield
            except DamagedCheckpointError:
                raise
            except ValueError as error:
                raise WriteError(f"cannot write {self.directory}: {one_line(error)}") from error


def _this_process() -> ocp.options.MultiprocessingOptions:
    """Let orbax wait for no other process."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    # Orbax has named tuples as dicts, and other ones as lists.
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }


def move_aside(path: Path) -> Path:
    """Rename a damaged checkpoint."""
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged{count}")
    with writing(path):
        path.rename(aside)
    return aside


def one_line(error: Exception) -> str:
    """Put an error in a line; what matters in those of tensorstore comes last, after long paths."""
    lines = str(error).splitlines()
    line = lines[0] if lines else type(error).__name__
    if code := re.search(r"os_error_code='(\d+)'", line):
        return os.strerror(int(code[1]))
    return line if len(line) <= _LONGEST_REASON else f"...{line[-_LONGEST_REASON:]}"
