"""Checkpoints of a run, by orbax, and whether they are still what was saved.

A working directory holds ``checkpoints/<step>/`` and, where a validation set is named,
``best/<step>/``. A checkpoint is written beside its final name and renamed when complete, so that
one which was cut off is never read. With it go fingerprints of what it holds, one for each field of
the state, so that a part can be read by itself: neither orbax nor the format under it notices a
flipped bit.
"""

import dataclasses
import os
import re
import shutil
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from sempart_jax.host.errors import WriteError, writing
from sempart_jax.kernels.tensor_tree import fingerprint_params

_FINGERPRINTS = "fingerprints"
_WHOLE_FINGERPRINT = "fingerprint"
"""Of the whole state: older checkpoints have it instead."""
_UNFINISHED = "*.orbax-checkpoint-tmp"
"""What orbax calls a checkpoint that is not complete."""


@runtime_checkable
class SteppedState(Protocol):
    """Everything that a training step changes: a dataclass whose fields are trees of arrays."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def step(self) -> Any:
        """Number of steps taken, int32 array."""


State = TypeVar("State", bound=SteppedState)
Tree = TypeVar("Tree")


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
            read_only: touch nothing. Otherwise the directory is made if absent, and what a killed
                process has left unfinished is removed.

        Raises:
            DamagedCheckpointError: if what orbax notes of checkpoints cannot be read: of any where
                nothing may be touched, otherwise of all. Where some are good, damaged ones are
                renamed ``<step>.damaged``, with a warning.
            WriteError: if the directory cannot be made.
        """
        self.directory = Path(workdir).resolve() / name
        self._best = best
        if not read_only:
            with writing(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
                for unfinished in self.directory.glob(_UNFINISHED):
                    shutil.rmtree(unfinished)
        self._keep = keep
        try:
            self._manager = self._open(self.directory)
        except UNLISTED_ERRORS as error:
            self._tell_or_set_aside(error, read_only=read_only)
            self._manager = self._open(self.directory)

    def _open(self, directory: Path) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            directory,
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                best_fn=(lambda metrics: metrics["score"]) if self._best else None,
                best_mode="max",
                create=False,  # orbax would have all processes do it together
                enable_async_checkpointing=True,
                multiprocessing_options=_this_process(),
            ),
        )

    def _tell_or_set_aside(self, error: Exception, *, read_only: bool) -> None:
        """Find which checkpoints orbax cannot list; rename them if others are left."""
        steps = [int(path.name) for path in self.directory.iterdir() if path.name.isdecimal()]
        damaged = unlisted_steps(self.directory, steps, self._open)
        if read_only or not damaged or len(damaged) == len(steps):
            listed = "\n  ".join(damaged.values()) or one_line(error)
            raise DamagedCheckpointError(
                f"a checkpoint has lost its score or its description:\n  {listed}\n"
                "Restore it from a backup, or move it away."
            ) from error
        for step, reason in damaged.items():
            logging.warning("%s. Renamed to %s", reason, move_aside(self.directory / str(step)))

    def __enter__(self) -> "Checkpoints":
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        """Wait for pending writes and close.

        Raises:
            WriteError: if a write has failed, unless there is an error already.
        """
        # Of two errors the first is told: it is why the run ends.
        with suppress(WriteError) if error else nullcontext(), self._writing():
            self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint that is complete or being written, or ``None``."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, state: SteppedState, score: float | None = None) -> None:
        """Start to write a state, after the one before is complete; training may go on at once.

        Args:
            state: unreplicated state. A step that is on disk already is not written again.
            score: what the best checkpoints are chosen by.

        Raises:
            WriteError: if this state or the one before cannot be written. Older checkpoints stay.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        with self._writing():
            # Or orbax would make it again, with nothing else of the run beside it.
            if not self.directory.is_dir():
                raise FileNotFoundError("the directory has been removed")
            state = jax.device_get(state)
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                metrics=None if score is None else {"score": score},
                custom_metadata={
                    _FINGERPRINTS: {
                        name: fingerprint_params(field) for name, field in _fields(state).items()
                    }
                },
            )

    def wait(self) -> None:
        """Wait until all is written.

        Raises:
            WriteError: if it cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

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
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self.restore(like, step)
            except DamagedCheckpointError as error:
                damaged[step] = str(error)
                continue
            for newer, reason in damaged.items():
                aside = self._set_aside(newer)
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
        """Read a checkpoint.

        Args:
            like: state of the same structure and shapes, such as a fresh one.
            step: which; by default the newest, or the best where the best are kept.

        Returns:
            State on the host.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            DamagedCheckpointError: if it does not hold what was saved. One from before there were
                fingerprints is only noticed where its files cannot be read.
        """
        step = self._existing(step)
        abstract = jax.tree.map(np.asarray, jax.device_get(like))

        def read() -> State:
            state: State = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
            return state

        state, fingerprints = self._read(step, read)
        self._check(step, {_WHOLE_FINGERPRINT: state, **_fields(state)}, fingerprints)
        return state

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

        def read() -> dict[str, Any]:
            handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_this_process())
            folder = self._manager.directory / str(step) / "default"
            stored = handler.metadata(folder).tree
            # Orbax leaves an array as it is asked for where there is none of its name.
            if _shapes({name: stored[name] for name in abstract}) != _shapes(abstract):
                raise ValueError("its arrays do not match the network")
            arguments = ocp.args.PyTreeRestore(
                item=abstract,
                restore_args=jax.tree.map(
                    lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype),
                    abstract,
                ),
                partial_restore=True,
            )
            return dict(handler.restore(folder, args=arguments))

        fields, fingerprints = self._read(step, read)
        self._check(step, fields, fingerprints)
        return step, fields

    def _existing(self, step: int | None) -> int:
        if step is None:
            step = self._best_step() if self._best else self.latest_step
        if step is None or step not in self._manager.all_steps():
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"{wanted} in {self.directory}")
        return step

    def _read(self, step: int, read: Callable[[], Tree]) -> tuple[Tree, dict[str, str]]:
        """Read what is asked for, and the fingerprints of all that was saved."""
        try:
            description = self._manager.metadata(step)
            restored = read()
            noted = description.custom_metadata or {}
            fingerprints = dict(noted.get(_FINGERPRINTS, {}))
            if _WHOLE_FINGERPRINT in noted:
                fingerprints[_WHOLE_FINGERPRINT] = noted[_WHOLE_FINGERPRINT]
        except MemoryError:
            raise
        # Of damaged files orbax raises whatever stumbles over them first.
        except Exception as error:
            raise self._damaged(step, one_line(error)) from error
        if description.init_timestamp_nsecs is None:
            raise self._damaged(step, "its metadata is missing or truncated")
        return restored, fingerprints

    def _check(self, step: int, read: Mapping[str, Any], fingerprints: Mapping[str, str]) -> None:
        for name in read.keys() & fingerprints.keys():
            if fingerprint_params(read[name]) != fingerprints[name]:
                raise self._damaged(step, "its contents have changed since it was saved")

    def _damaged(self, step: int, reason: str) -> DamagedCheckpointError:
        return DamagedCheckpointError(f"{self.directory / str(step)} is damaged: {reason}")

    def _best_step(self) -> int | None:
        for step in self._manager.all_steps():
            if not self._manager.metrics(step):
                raise DamagedCheckpointError(
                    f"{self.directory / str(step)} is damaged: it has lost its score. Choose a "
                    f"checkpoint in {self.directory} yourself"
                )
        best: int | None = self._manager.best_step()
        return best

    def _set_aside(self, step: int) -> Path:
        aside = move_aside(self.directory / str(step))
        self._manager.reload()
        return aside

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell what orbax raises when it cannot write, which need not be an ``OSError``."""
        with writing(self.directory):
            try:
                yield
            except ValueError as error:
                raise WriteError(f"cannot write {self.directory}: {one_line(error)}") from error


def _this_process() -> ocp.options.MultiprocessingOptions:
    """Let orbax wait for no other process."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})


def _fields(state: SteppedState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}


UNLISTED_ERRORS = (ValueError, KeyError, TypeError)
"""What orbax raises over a checkpoint whose score or description is damaged."""

_LONGEST_REASON = 200


def unlisted_steps(
    directory: Path,
    steps: Sequence[int],
    open_manager: Callable[[Path], AbstractContextManager[object]],
) -> dict[int, str]:
    """Find the checkpoints that orbax cannot list; it lists none then, and names none.

    Args:
        directory: holds them.
        steps: those that are there.
        open_manager: opens a directory of checkpoints by orbax.

    Returns:
        What is wrong with each damaged one, by its step.
    """
    damaged = {}
    for step in steps:
        # With each alone orbax does what it does with all.
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / str(step)).symlink_to(directory / str(step))
            try:
                with open_manager(Path(folder)):
                    pass
            except UNLISTED_ERRORS as error:
                damaged[step] = f"{directory / str(step)} is damaged: {one_line(error)}"
    return damaged


def move_aside(path: Path) -> Path:
    """Rename a damaged checkpoint.

    Args:
        path: the checkpoint.

    Returns:
        Its new name.

    Raises:
        WriteError: if it cannot be renamed.
    """
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
