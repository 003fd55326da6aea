"""What is told when a device or the machine has not enough memory."""

from absl import flags

MEMORY_ERRORS = (MemoryError, RuntimeError)
"""Types of what is raised then; the second, of which JAX's is a kind, is of other failures, too."""

_LONGEST_REASON = 200


def describe_out_of_memory(error: BaseException) -> str | None:
    """Say in a line what to do about an error; ``None`` where memory was not the problem."""
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
        return None
    lines = str(error).strip().splitlines() or ["the system gives no more"]
    return f"out of memory ({lines[0][:_LONGEST_REASON]}). {_advice()}"


def _advice() -> str:
    given = flags.FLAGS
    if "config" in given and given["config"].value is not None:
        side = "crops.global_size" if "crops" in given["config"].value else "data.image_size"
        return (
            "Take a higher --config.accumulation (the same batch in parts), a lower "
            f"--config.batch_size or a lower --config.{side}, in another --workdir if this run "
            "has a checkpoint; more in docs/troubleshooting.md"
        )
    named = " and ".join(f"--{name}" for name in ("batch_size", "resolution") if name in given)
    return f"Take a lower {named or 'resolution'}; more in docs/troubleshooting.md"
