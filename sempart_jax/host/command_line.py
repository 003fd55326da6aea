"""How every entry point starts: flags, expected errors in one line; without JAX, for it is slow."""

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from sempart_jax.host.config_fields import describe_unknown_fields
from sempart_jax.host.errors import ExpectedError
from sempart_jax.host.out_of_memory import MEMORY_ERRORS, describe_out_of_memory

EXPECTED_ERRORS = (
    ValueError,
    OSError,  # a file that is missing, a disk that is full
    ModuleNotFoundError,  # an extra that is not installed
    ExpectedError,
)
"""What a user can mend: told in one line, without a traceback."""


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

_HELP = ("help", "?", "helpshort", "helpfull", "helpxml")


def run(
    main: Callable[..., None],
    *,
    positional: bool = False,
    resumable: bool = False,
    default: Callable[[], ConfigDict] = ConfigDict,
    experiment: str = "",
) -> None:
    """Parse the flags, call ``main`` and leave the program.

    Exit status 0 after success and after help, 1 after one of :data:`EXPECTED_ERRORS`, flags that
    make no sense or where memory does not suffice, 130 after Ctrl-C; other errors keep their
    traceback.

    Args:
        main: reads its arguments from flags; called with the list of the others if ``positional``.
        positional: whether there may be arguments that are no flags, before, among or after these;
            after ``--`` all are.
        resumable: whether the same command continues after Ctrl-C, which is said then.
        default: a configuration with all fields that ``--config`` may set, where there is one.
        experiment: an example of ``--config``, for who sets fields of none.
    """

    def guarded(arguments: Sequence[str]) -> None:
        rest = list(arguments[1:])
        if rest and not positional:
            sys.exit(f"error: unexpected arguments: {' '.join(rest)}")
        if not flags.FLAGS["verbosity"].present:
            absl_logging.set_verbosity(absl_logging.WARNING)
            silence_orbax()
        try:
            main(*([rest] if positional else []))
        except EXPECTED_ERRORS as error:
            sys.exit(f"error: {error}")
        except MEMORY_ERRORS as error:
            told = describe_out_of_memory(error)
            if told is None:
                raise
            sys.exit(f"error: {told}")
        except KeyboardInterrupt:
            if resumable:
                print("interrupted; the same command continues", file=sys.stderr)
            sys.exit(INTERRUPTED)

    app.run(guarded, flags_parser=lambda given: _parse(expand_home(given), default(), experiment))


def define_gpu_flag() -> None:
    """Define ``--require_gpu``, for a program that computes."""
    # The help shows it among those of the program.
    flags.disclaim_key_flags()
    flags.DEFINE_bool(
        "require_gpu", False, "Fail where JAX finds no GPU, instead of computing on the CPU."
    )


def expand_home(arguments: Sequence[str] | None = None) -> list[str]:
    """Write ``~`` and ``~user`` out where a path begins, as shells do for separate words alone.

    Args:
        arguments: whose paths stand by themselves or behind ``=``; those of the program by default.
    """
    return [
        re.sub(r"(?:^|(?<==))~[^/=]*", lambda home: os.path.expanduser(home[0]), argument)  # noqa: PTH111
        for argument in (sys.argv[1:] if arguments is None else arguments)
    ]


def _parse(arguments: list[str], default: ConfigDict, experiment: str) -> list[str]:
    try:
        rest: list[str] = flags.FLAGS(arguments)
        if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
            # A file that does not load is only told of when a field is asked for.
            _ = flags.FLAGS["config"].value.seed
    except (AttributeError, KeyError) as error:
        # The config library says that a field is unknown without saying which would be known.
        sys.exit(f"error: {describe_unknown_fields(arguments, default) or error}")
    except flags.UnrecognizedFlagError as error:
        # Fields are flags only beside a configuration.
        is_field = experiment and error.flagname.startswith("config.")
        sys.exit(f"error: {give_experiment(experiment) if is_field else error}")
    except (flags.Error, OSError) as error:
        sys.exit(f"error: {error}")
    except SystemExit as left:
        # Help that was asked for is no failure, as absl has it.
        sys.exit(0 if any(each.lstrip("-") in _HELP for each in arguments) else left.code)
    return rest


def give_experiment(example: str) -> str:
    """Say what to do where ``--config`` is missing."""
    return f"give an experiment: --config {example}"


def silence_orbax() -> None:
    """Leave out orbax's log, and what it has begun and not ended when it fails.

    Each of its errors is raised as well, and told by whoever has asked for a checkpoint.
    """
    absl_logging.get_absl_handler().addFilter(_is_no_noise)
    tell = sys.unraisablehook

    def tell_unless_closed(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            tell(unraisable)

    sys.unraisablehook = tell_unless_closed


def _is_no_noise(record: logging.LogRecord) -> bool:
    abandoned = record.name == "asyncio" and "never retrieved" in record.getMessage()
    return not abandoned and "orbax" not in Path(record.pathname).parts
