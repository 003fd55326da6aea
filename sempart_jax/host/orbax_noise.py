"""What orbax says beside the errors that it raises, and what is not for users."""

import logging
import sys
from pathlib import Path

from absl import logging as absl_logging


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
