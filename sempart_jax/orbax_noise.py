"""What orbax says beside the errors that it raises, and what is not for users."""

import sys
from pathlib import Path

from absl import logging


def silence_orbax() -> None:
    """Leave out orbax's log, and what it has begun and not ended when it fails.

    Each of its errors is raised as well, and told by whoever has asked for a checkpoint.
    """
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in Path(record.pathname).parts)
    tell = sys.unraisablehook

    def tell_unless_closed(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            tell(unraisable)

    sys.unraisablehook = tell_unless_closed
