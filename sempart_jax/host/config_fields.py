"""Names of a configuration's fields, nested ones with dots."""

import difflib
import re
from collections.abc import Sequence

from ml_collections import ConfigDict


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, object]:
    """Turn nested fields into one dictionary with dotted names."""
    fields: dict[str, object] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def describe_unknown_fields(arguments: Sequence[str], default: ConfigDict) -> str:
    """Say which fields on a command line a configuration lacks, and which may have been meant."""
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
