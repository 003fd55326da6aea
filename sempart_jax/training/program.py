"""The command line of an entry point that trains."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from sempart_jax.data.folder import image_folder
from sempart_jax.host import command_line
from sempart_jax.host.errors import WriteError
from sempart_jax.host.stop_signals import StoppedRunError


def run(
    train: Callable[[ConfigDict, Path], object],
    check: Callable[[ConfigDict], None],
    default: Callable[[], ConfigDict],
    *,
    example: str,
) -> None:
    """Read ``--config`` and ``--workdir``, train, and leave the program."""
    # Here and not above: who imports a training has flags of its own.
    config_flag = config_flags.DEFINE_config_file(
        "config", help_string=f"Experiment file, for example {example}."
    )
    workdir_flag = flags.DEFINE_string(
        "workdir", None, "Directory of the run (default: runs/NAME of the experiment)."
    )
    command_line.define_gpu_flag()
    # --help lists the flags of the program itself alone.
    for name in (config_flag.name, workdir_flag.name, "require_gpu"):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])

    def main() -> None:
        config = config_flag.value
        if config is None:
            raise ValueError(command_line.give_experiment(example))
        experiment_file = Path(config_flags.get_config_filename(flags.FLAGS["config"]))
        workdir = Path(workdir_flag.value or Path("runs") / experiment_file.stem)
        check(config)
        if not config.distributed:  # one of several processes tells the others when it ends
            image_folder(config.data.train)
        # What is mistyped has been told before JAX and what computes with it are imported.
        from sempart_jax.host.compilation_cache import enable_compilation_cache
        from sempart_jax.host.devices import check_gpu
        from sempart_jax.training import distributed

        enable_compilation_cache()
        try:
            with (
                distributed.joined(
                    config.coordinator_address, config.num_processes, config.process_id
                )
                if config.distributed
                else contextlib.nullcontext()
            ):
                check_gpu(flags.FLAGS.require_gpu)
                train(config, workdir)
                if not distributed.is_writer():
                    return
        except StoppedRunError as stopped:
            print(f"stopped: {stopped}")
            sys.exit(stopped.exit_status)
        except WriteError as error:
            sys.exit(
                f"error: {error}. Fix this and repeat the command to continue from the last "
                "checkpoint"
            )
        print(f"run directory: {workdir}")

    command_line.run(main, default=default, experiment=example, resumable=True)
