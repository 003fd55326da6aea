"""How every entry point starts: flags, expected errors in one line; without JAX, for it is slow."""

import difflib
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict

from sempart_jax.data.images import NoReadableImageError
from sempart_jax.orbax_noise import silence_orbax
from sempart_jax.out_of_memory import MEMORY_ERRORS, describe_out_of_memory
from sempart_jax.training.health import UnhealthyRunError
from sempart_jax.training.run_config import flatten

EXPECTED_ERRORS = (
    ValueError,
    OSError,  # a file that is missing, a disk that is full
    ModuleNotFoundError,  # an extra that is not installed
    NoReadableImageError,
    UnhealthyRunError,
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
    """

    def guarded(arguments: Sequence[str]) -> None:
        rest = list(arguments[1:])
        if rest and not positional:
            sys.exit(f"error: unexpected arguments: {' '.join(rest)}")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
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

    app.run(guarded, flags_parser=lambda arguments: _parse(arguments, default()))


def _parse(arguments: list[str], default: ConfigDict) -> list[str]:
    try:
        rest: list[str] = flags.FLAGS(arguments)
        if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
            # A file that does not load is only told of when a field is asked for.
            _ = flags.FLAGS["config"].value.seed
    except (AttributeError, KeyError) as error:
        # The config library says that a field is unknown without saying which would be known.
        sys.exit(f"error: {describe_unknown_fields(arguments, default) or error}")
    except (flags.Error, OSError) as error:
        sys.exit(f"error: {error}")
    except SystemExit as left:
        # Help that was asked for is no failure, as absl has it.
        sys.exit(0 if any(each.lstrip("-") in _HELP for each in arguments) else left.code)
    return rest


def describe_unknown_fields(arguments: Sequence[str], default: ConfigDict) -> str:
    """Say which fields on a command line a configuration lacks, and which may have been meant.

    Args:
        arguments: command line.
        default: the configuration.

    Returns:
        A line for each unknown ``--config.FIELD``; empty if all are known.
    """
    known = list(flatten(default))
    lines = []
    for argument in arguments:
        match = re.match(r"--?config\.([^=]+)", argument)
        if match is None or match[1] in known:
            continue
        field = match[1]
        last = field.rsplit(".", 1)[-1]
        similar = [name for name in known if name.rsplit(".", 1)[-1] == last]
        similar = similar or difflib.get_close_matches(field, known, n=2, cutoff=0.5)
        meant = " or ".join(f"config.{name}" for name in similar)
        lines.append(
            f"unknown field config.{field}" + (f": did you mean {meant}?" if meant else "")
        )
    return "\n".join(lines)
