"""What a run leaves on disk: its configuration, and checkpoints by orbax.

A working directory holds ``config.json`` (the configuration), ``run.json`` (fingerprints of images
and backbone), ``checkpoints/<step>/`` and, where a validation set is named, ``best/<step>/``. A
checkpoint is written beside its final name and renamed when complete, so that one which was cut
off is never read.
"""

import hashlib
import json
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from ml_collections import ConfigDict

from sempart_jax.atomic_write import write_atomically
from sempart_jax.default_config import changed_fields, default_config
from sempart_jax.train_step import TrainState


class ResumeError(ValueError):
    """The working directory holds a run that the present one may not continue."""


class Checkpoints:
    """The newest, or the best, states of a run, written in the background.

    Of several processes of a run, only one writes; whoever reads or writes waits for no other. Use
    as a context manager: leaving it waits for what is being written.
    """

    def __init__(
        self, workdir: str | Path, *, name: str = "checkpoints", keep: int = 3, best: bool = False
    ) -> None:
        """Open a directory of checkpoints, which is made if absent.

        Args:
            workdir: directory of the run.
            name: directory below ``workdir``.
            keep: number of checkpoints that stay.
            best: keep those of the highest score instead of the newest.
        """
        self.directory = Path(workdir).resolve() / name
        self._best = best
        self.directory.mkdir(parents=True, exist_ok=True)
        process = jax.process_index()
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                best_fn=(lambda metrics: metrics["score"]) if best else None,
                best_mode="max",
                create=False,  # orbax would have all processes do it together
                enable_async_checkpointing=True,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=process, active_processes={process}
                ),
            ),
        )

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
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or ``None``."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Start to write a state; training may go on at once.

        Args:
            state: unreplicated state. A step that is on disk already is not written again.
            score: what the best checkpoints are chosen by.
        """
        step = int(state.step)
        if step not in self._manager.all_steps():
            self._manager.save(
                step,
                args=ocp.args.StandardSave(jax.device_get(state)),
                metrics=None if score is None else {"score": score},
            )

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """Read a checkpoint.

        Args:
            like: state of the same structure and shapes, such as a fresh one.
            step: which; by default the newest, or the best where the best are kept.

        Returns:
            State on the host.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
        """
        if step is None:
            step = self._manager.best_step() if self._best else self.latest_step
        if step is None or step not in self._manager.all_steps():
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"{wanted} in {self.directory}")
        abstract = jax.tree.map(np.asarray, jax.device_get(like))
        restored: TrainState = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        return restored


def fingerprint_params(params: Any) -> str:
    """Short hash of a tree's names, shapes and values.

    Args:
        params: tree of arrays.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def register_run(workdir: str | Path, config: ConfigDict, fingerprints: dict[str, str]) -> None:
    """Record a new run, or check that the one in ``workdir`` may be continued.

    Args:
        workdir: directory of the run; made if absent.
        config: configuration asked for now.
        fingerprints: hashes of what the configuration points to, by name (images, backbone).

    Raises:
        ResumeError: names each field or content that differs from the recorded run.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    config_file, run_file = workdir / "config.json", workdir / "run.json"
    if config_file.exists():
        problems = changed_fields(read_config(workdir), config)
        recorded = json.loads(run_file.read_text()) if run_file.exists() else {}
        for name, value in fingerprints.items():
            if name in recorded and recorded[name] != value:
                problems.append(f"the {name} are not those that the run was started with")
        if problems:
            listed = "\n  ".join(problems)
            raise ResumeError(
                f"{workdir} holds a run with another configuration:\n  {listed}\n"
                "Give the old values to continue it, or another --workdir to start anew."
            )
        logging.info("continuing the run in %s", workdir)
    write_atomically(config_file, config.to_json_best_effort(indent=2) + "\n")
    write_atomically(run_file, json.dumps(fingerprints, indent=2) + "\n")


def read_config(workdir: str | Path) -> ConfigDict:
    """Read the configuration of a run.

    Args:
        workdir: directory of the run.

    Returns:
        The configuration; fields that are newer than the run have their defaults.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if the file is damaged.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"no run in {workdir}: {path} does not exist")
    try:
        fields = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}); restore it from a copy") from error
    config = default_config()
    with config.unlocked():
        config.update(fields)
    return config
