"""The part of a configuration that every run has, whatever it trains, and how runs are compared."""

import math
from collections.abc import Container
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sempart_jax.host.config_fields import flatten

DTYPES = ("float32", "bfloat16")
"""Types that matrix products can have."""

LAUNCH_FIELDS = ("distributed", "coordinator_address", "num_processes", "process_id")
"""How the processes of a run find each other; what is trained does not depend on them."""

RUN_LENGTH_FIELDS = ("steps", "epochs")
"""How long a run is."""

RESUMABLE_FIELDS = (
    *LAUNCH_FIELDS,
    *RUN_LENGTH_FIELDS,
    "log",
    "checkpoint",
    "health",
    "data.train",
    "data.workers",
)
"""Fields of every run that may differ when it is resumed: they say how long, from where and how
often, and change no learned parameter. Images may move; other contents are refused elsewhere."""

PROCESS_FIELDS = (*LAUNCH_FIELDS, "data.train", "data.workers")
"""Fields of every run that may differ between its processes: what lies where on each machine."""

PATH_FIELDS = (
    "data.train",
    "pseudo_masks",
    "backbone.weights",
    "validation.images",
    "validation.masks",
)
"""Fields that name files or folders, where a run has them."""


def run_config(task: str) -> ConfigDict:
    """Return the fields that every run has, with their defaults."""
    config = ConfigDict()
    config.task = task
    config.seed = 0
    config.batch_size = 8  # over all devices
    config.accumulation = 1  # parts of each device's images, one after the other: less memory
    config.epochs = 30
    config.steps = 0  # 0: as many as the epochs take

    config.distributed = False  # several processes train together, see docs/scaling.md
    config.coordinator_address = ""  # HOST:PORT of process 0; empty: as the launcher says
    config.num_processes = 0  # 0: as the launcher says
    config.process_id = -1  # of this process, from 0; -1: as the launcher says

    config.backbone = ConfigDict()
    config.backbone.name = "dino_vits8"
    config.backbone.dtype = "float32"  # or bfloat16

    config.data = ConfigDict()
    config.data.train = "data/DUTS"  # any folder of images, or DUTS as its authors lay it out
    config.data.workers = 0  # processes; 0: threads of this one

    config.augmentation = ConfigDict()
    config.augmentation.flip_probability = 0.5
    config.augmentation.jitter_probability = 0.8
    config.augmentation.brightness = 0.4
    config.augmentation.contrast = 0.4
    config.augmentation.saturation = 0.2
    config.augmentation.hue = 0.1
    config.augmentation.grayscale_probability = 0.2

    config.validation = ConfigDict()
    config.validation.images = ""  # folder; empty: no validation
    config.validation.masks = ""
    config.validation.every_steps = 0  # 0: before the first and after the last step

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.keep = 3

    config.log = ConfigDict()
    config.log.every_steps = 50
    config.log.panels_every_steps = 1000
    config.log.panel_images = 6

    config.health = ConfigDict()
    config.health.collapse_steps = 500  # in a row that show a collapse
    return config


_LARGEST = float(np.finfo(np.float32).max)


class FieldChecks:
    """Checks values field by field, and tells of all bad ones together."""

    def __init__(self, config: ConfigDict) -> None:
        """Take the configuration that is checked."""
        self._config = config
        self._problems: list[str] = []

    def require(self, field: str, holds: bool, wanted: str) -> None:
        """Note a problem unless a condition holds."""
        if not holds:
            value = self._lookup(field)
            self._problems.append(f"config.{field} must be {wanted}, got {value!r}")

    def at_least(self, lowest: int, *fields: str) -> None:
        """Require that values are not below a bound."""
        for field in fields:
            self.require(field, self._lookup(field) >= lowest, f"at least {lowest}")

    def above_zero(self, *fields: str) -> None:
        """Require that values are positive."""
        for field in fields:
            self.require(field, self._lookup(field) > 0, "above 0")

    def finite(self) -> None:
        """Require that no number of the configuration is NaN or infinite as float32."""
        for field, value in flatten(self._config).items():
            if isinstance(value, float):
                self.require(field, abs(value) <= _LARGEST, f"a number of at most {_LARGEST:.1e}")

    def fractions(self, *fields: str) -> None:
        """Require that values lie between 0 and 1, both included."""
        for field in fields:
            self.require(field, 0 <= self._lookup(field) <= 1, "between 0 and 1")

    def tell(self) -> None:
        """Raise ValueError if there are problems."""
        if self._problems:
            raise ValueError("\n".join(self._problems))

    def _lookup(self, field: str) -> Any:
        value = self._config
        for part in field.split("."):
            value = value[part]
        return value


def check_run_fields(config: ConfigDict, checks: FieldChecks) -> None:
    """Check the fields of :func:`run_config`."""
    checks.at_least(
        1,
        "batch_size",
        "accumulation",
        "checkpoint.every_steps",
        "checkpoint.keep",
        "log.every_steps",
        "health.collapse_steps",
    )
    checks.at_least(
        0,
        "steps",
        "epochs",
        "data.workers",
        "log.panels_every_steps",
        "log.panel_images",
        "seed",
        "validation.every_steps",
        "augmentation.brightness",
        "augmentation.contrast",
        "augmentation.saturation",
    )
    checks.at_least(1, "data.image_size")
    checks.fractions(
        "augmentation.flip_probability",
        "augmentation.jitter_probability",
        "augmentation.grayscale_probability",
    )
    checks.finite()
    checks.require("seed", config.seed < 2**63, "below 2**63")
    checks.require("steps", bool(config.steps or config.epochs), "above 0 if config.epochs is 0")
    checks.require("augmentation.hue", 0 <= config.augmentation.hue <= 0.5, "between 0 and 0.5")
    checks.require(
        "data.resize_size",
        config.data.resize_size >= config.data.image_size,
        f"at least data.image_size ({config.data.image_size})",
    )
    checks.require(
        "validation.masks",
        bool(config.validation.images) == bool(config.validation.masks),
        "set if and only if config.validation.images is",
    )
    checks.require("backbone.dtype", config.backbone.dtype in DTYPES, "'float32' or 'bfloat16'")
    unset = {"coordinator_address": "", "num_processes": 0, "process_id": -1}
    for field, value in unset.items():
        set_for_nothing = config[field] != value and not config.distributed
        checks.require(field, not set_for_nothing, f"{value!r} unless config.distributed is set")
    host, _, port = config.coordinator_address.rpartition(":")
    checks.require(
        "coordinator_address",
        not config.coordinator_address
        or (bool(host) and port.isdecimal() and 0 < int(port) < 65536),
        "HOST:PORT of process 0 with a port from 1 to 65535, or empty",
    )
    checks.at_least(0, "num_processes")
    count = config.num_processes or math.inf
    checks.require(
        "process_id", -1 <= config.process_id < count, "from 0 to config.num_processes - 1"
    )


def check_task(config: ConfigDict, task: str, program: str) -> None:
    """Refuse a configuration of another task."""
    if config.get("task") != task:
        raise ValueError(
            f"config.task is {config.get('task')!r}, but sempart_jax.{program} needs {task!r}: "
            "choose another --config or another program"
        )


def last_step(config: ConfigDict, image_count: int) -> int:
    """Return the steps at the end of a run."""
    return int(config.steps or math.ceil(config.epochs * image_count / config.batch_size))


def changed_fields(old: ConfigDict, new: ConfigDict, resumable_fields: Container[str]) -> list[str]:
    """List the fields that stand against resuming a run, as ``field: old -> new``."""
    before, after = flatten(old), flatten(new)
    return [
        f"{field}: {before.get(field)!r} -> {after.get(field)!r}"
        for field in sorted(before.keys() | after.keys())
        if before.get(field) != after.get(field) and not _is_among(field, resumable_fields)
    ]


def without(config: ConfigDict, fields: Container[str]) -> dict[str, object]:
    """Return all fields of a configuration but some, by their dotted names."""
    return {name: value for name, value in flatten(config).items() if not _is_among(name, fields)}


def _is_among(field: str, fields: Container[str]) -> bool:
    """Whether a field, or a group that it is in, is among some."""
    parts = field.split(".")
    return any(".".join(parts[:count]) in fields for count in range(1, len(parts) + 1))
