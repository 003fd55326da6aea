"""Shared test set-up: eight CPU devices, strict JAX, checked array shapes, golden values."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

import jaxtyping
from jaxtyping import install_import_hook

install_import_hook("sempart_jax", "beartype.beartype")

import jax
import numpy as np
import pytest

from tests import golden_values
from tests.commands import QUICKLY_COMPILED

jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = Path(os.environ.get("SEMPART_REFERENCE", REPOSITORY.parent / "shared"))
"""Folder with ``data/`` (real images), and with what ``tests/golden`` was taken from.

The one that SEMPART_REFERENCE names, or a folder named ``shared`` beside the repository.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make test` wait less for the compiler."""
    parser.addoption(
        "--quickly-compiled",
        action="store_true",
        help="compile with few optimizations, as the tests of the command line always do",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose how XLA compiles, which it reads when it compiles first."""
    if config.getoption("--quickly-compiled"):
        os.environ["XLA_FLAGS"] += f" {QUICKLY_COMPILED}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of golden values, and sort: a broken line shows in seconds, slow ones run last."""
    for item in items:
        if "golden" in getattr(item, "fixturenames", ()):
            item.add_marker("golden")
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True, scope="session")
def _keep_compiled_programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile what several tests, and the programs that they start, need only once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    # With a largest size, JAX holds a lock while it reads and writes.
    jax.config.update("jax_compilation_cache_max_size", 2**32)
    # Programs that are started compile the same many small things each time. In a folder of its
    # own without a largest size, for whose sake JAX would read all of it before each write.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled_by_programs")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs() -> Iterator[None]:
    """Release what a file has compiled.

    All tests together compile for more memory maps than Linux gives a process, which then ends by
    a segmentation fault.
    """
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Return a loader of ``tests/golden/NAME.npz``."""
    return golden_values.load


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Return the folder of real photographs; the test skips where it is absent."""
    path = REFERENCE / "data"
    if not path.exists():
        pytest.skip(f"real photographs not found: {path} (set SEMPART_REFERENCE)")
    return path


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Switch off the shape checks of the tests, to reach the product's own error messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
