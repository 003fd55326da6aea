"""Time ours beside PyTorch and OpenCV on the same work; measure memory, and what a GPU reaches.

    pip install -e '.[bench]'           # or '.[bench,cuda12]' on an NVIDIA GPU
    python scripts/benchmark.py --images data/DUTS/DUTS-TR/DUTS-TR-Image --out results.json

Both sides of a row are compiled and compared first: where their results differ by more than
rounding, the run ends with an error. Then they run in turns, ours, theirs, ours, theirs, ...
Shown are median times and the median of the ratios of neighbours with quartiles. The machine should
be idle: other load slows PyTorch's threads more than ours. What is not installed is left out.

--only=ncut,mask picks rows. "memory" and "gpu" run in processes of their own: time and peak memory
of a mask and of a training step, and on a GPU, in float32 and bfloat16, with the batch doubled
until it does not fit.
"""

import concurrent.futures
import contextlib
import functools
import importlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags, logging

from sempart_jax.data import image_sources, pipeline, synthetic
from sempart_jax.host import atomic_write, command_line, out_of_memory
from sempart_jax.kernels import host_guided_filter
from sempart_jax.networks import backbones, by_name, trained
from sempart_jax.predict import load, network_step
from sempart_jax.two_tricks import augment, filters, interfaces, losses, objective, train_step

_ONLY = flags.DEFINE_list("only", None, "Rows to measure; all that this machine can by default.")
_SMALL = flags.DEFINE_bool("small", False, "64 px, batch 1, two repeats: to try it out.")
_DEVICE = flags.DEFINE_enum("device", "auto", ["auto", "cpu", "gpu"], "What to compute on.")
_SIZE = flags.DEFINE_integer("size", 320, "Side of the images in pixels.", lower_bound=64)
_BATCH = flags.DEFINE_integer("batch", 2, "Images a call.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 7, "Samples of each side.", lower_bound=1)
_IMAGES = flags.DEFINE_string("images", None, "Folder of images for the row input.")
_PLAIN = flags.DEFINE_bool("plain_torch", False, "No fused attention, channels first.")
_OUT = flags.DEFINE_string("out", None, "JSON file for the machine and all samples.")

BACKBONE, RADIUS = "dino_vits8", 9
SAMPLE_SECONDS = 0.2
"""Shorter calls are repeated to fill a sample of so much."""
HEAD = "| row | ours | a second | other | ours / other | peak memory |\n|---|---|---|---|---|---|"


class Size(NamedTuple):
    """How large the rows are, and PyTorch's kind."""

    side: int
    batch: int
    images: str | None = None
    plain: bool = False


class Side(NamedTuple):
    """One side of a row: its work, which returns when done."""

    label: str
    run: Callable[[], Any]


class Row(NamedTuple):
    """The same work, done by ours and by another library, if there is one.

    Times are divided by ``items``. Results may differ by ``tolerance``, relative to the largest
    value of each array, but for a ``border`` of some pixels.
    """

    name: str
    ours: Side
    other: Side | None = None
    items: int = 1
    tolerance: float = 1e-3
    border: int = 0


def ours(run: Callable[[], Any]) -> Side:
    """Return our side, which waits for the device."""
    return Side("ours", lambda: jax.block_until_ready(run()))


@functools.cache
def optional(module: str) -> Any:
    """Import a module that needs PyTorch or OpenCV; ``None`` where that is not installed.

    Not at the start: in the processes whose memory is measured it would count.
    """
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.import_module(module)


def in_torch(size: Size, name: str, *arguments: Any) -> Side | None:
    """Make PyTorch's side by a function of ``benchmark_torch``, if PyTorch is installed."""
    twin = optional("benchmark_torch")
    if twin is None:
        return None
    twin.use_device("cuda" if jax.default_backend() == "gpu" else "cpu")
    run = twin.finished(getattr(twin, name)(*arguments), size.plain)
    return Side("plain PyTorch" if size.plain else "PyTorch", run)


def draw_scenes(size: Size) -> np.ndarray:
    """Draw images, uint8 ``[B, side, side, 3]``, eight that repeat."""
    generators = map(np.random.default_rng, range(min(size.batch, 8)))
    drawn = [synthetic.synthetic_scene(rng, size.side)[0] for rng in generators]
    return np.resize(drawn, (size.batch, size.side, size.side, 3))


def draw_keys(batch: int, grid: int) -> np.ndarray:
    """Draw keys ``[B, h, w, 384]`` that change from patch to patch as smoothly as a photograph."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(batch, 5, 5, 384))
    keys = np.array(jax.image.resize(coarse, (batch, grid, grid, 384), "cubic"))
    return (keys + 0.3 * rng.normal(size=keys.shape)).astype(np.float32)


def ncut(size: Size) -> Iterator[Row]:
    """N-cut loss and its gradient to the mask."""
    grid = size.side // 8
    keys = draw_keys(8, grid)
    mask = np.random.default_rng(1).uniform(0.1, 0.9, (8, grid, grid, 1)).astype(np.float32)
    arguments = jax.device_put((keys, mask))
    function = jax.jit(jax.value_and_grad(losses.normalized_cut, argnums=1))
    name = f"N-cut, value and gradient, {grid}x{grid} patches, batch 8"
    yield Row(name, ours(lambda: function(*arguments)), in_torch(size, "ncut", keys, mask))


def guided_filters(size: Size) -> Iterator[Row]:
    """Guided filter of a mask by 8-bit RGB, jitted and on the host."""
    cv2 = optional("cv2")
    for height, width in ((size.side, size.side), (3000, 4000))[: 1 if size.side < 320 else 2]:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        mask = rng.uniform(size=(height, width)).astype(np.float32)
        jitted = ours(functools.partial(jitted_filter, image, mask))
        host = ours(functools.partial(host_guided_filter.guided, image, mask, radius=RADIUS))
        opencv = Side("OpenCV", functools.partial(opencv_filter, image, mask)) if cv2 else None
        name = f"guided filter, {{}}, {height}x{width}"
        yield Row(name.format("jitted"), jitted, in_torch(size, "guided", image, mask, RADIUS))
        # OpenCV mirrors the image at its border, ours clips the windows.
        if opencv:
            yield Row(name.format("jitted"), jitted, opencv, border=2 * RADIUS)
        yield Row(name.format("on the host"), host, opencv, border=2 * RADIUS)


@jax.jit
def jitted_filter(image: jax.Array, mask: jax.Array) -> jax.Array:
    """Filter as training does."""
    guide = filters.grey_guide(image.astype(jnp.float32) / 255)
    return filters.guided_filter(guide, mask[..., None], RADIUS)[..., 0]


def opencv_filter(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Filter by OpenCV, with the mean of R, G and B as guide."""
    cv2 = optional("cv2")
    guide = cv2.transform(image.astype(np.float32), np.full((1, 3), 1 / (3 * 255), np.float32))
    return cv2.ximgproc.guidedFilter(guide, mask, RADIUS, 1e-3)


@functools.cache
def make_network(dtype: str = "float32", axis_name: str | None = None) -> tuple[Any, Any, Any]:
    """Make Sempart with random weights: the network, its frozen parameters and its variables."""
    # That the weights are random is meant.
    logging.set_verbosity(logging.ERROR)
    backbone, frozen = backbones.load_backbone(BACKBONE, "random", dtype)
    network = by_name.create_network("sempart", backbone, axis_name=axis_name, head_dtype=dtype)
    return network, *jax.device_get((frozen, network.init(jax.random.key(0), frozen, 32)))


class MiddleObjective(objective.SempartObjective):
    """Zooms into the middle of each image instead of a random region, so that both sides agree."""

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """Compute all terms."""
        image = arguments[3].image
        corners = jnp.full((len(image), 2), image.shape[1] // 4)
        return super().evaluate(*arguments, **options, corners=corners)


def training_work(size: Size, dtype: str, compared: bool = False, tricks: bool = True) -> Any:
    """Return a training step on all devices, from images on the host to loss and gradient norm.

    To be compared it is without what is random: augmentation, and the place of the zoomed region.
    """
    network, frozen, variables = make_network(dtype, train_step.DEVICE_AXIS)
    kind = MiddleObjective if compared else objective.SempartObjective
    minimised = kind(crop_fraction=0.5 if tricks else None)
    augmented = None if compared else augment.Augmentation()
    adam = optax.adamw(1e-4, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.0)
    step = train_step.make_train_step(network, minimised, adam, seed=0, augmentation=augmented)
    state = train_step.replicate(train_step.create_train_state(variables, adam))
    frozen = train_step.replicate(frozen)
    images = train_step.shard(draw_scenes(size), jax.local_device_count())

    def run() -> Any:
        nonlocal state
        state, metrics = step(state, frozen, interfaces.Examples(images))
        jax.block_until_ready(state)
        return metrics["total"][0], metrics["grad_norm"][0]

    return run


def training(size: Size) -> Iterator[Row]:
    """A training step with both tricks, and one with none."""
    _, frozen, variables = make_network("float32", train_step.DEVICE_AXIS)
    for tricks in (True, False):
        run = training_work(size, "float32", compared=True, tricks=tricks)
        arguments = (frozen, variables, draw_scenes(size), tricks, size.plain)
        how = "both tricks" if tricks else "no trick"
        name = f"training step, {how}, {size.side} px, batch {size.batch}"
        yield Row(name, ours(run), in_torch(size, "training", *arguments), size.batch)


def mask_work(size: Size, dtype: str) -> Any:
    """Return the prediction of fine masks on all devices, from and to the host."""
    network, frozen, variables = make_network(dtype)
    images, variables = draw_scenes(size), train_step.replicate(variables)
    step = network_step.NetworkStep(network, train_step.replicate(frozen))
    return lambda: step.start(variables, images, size.batch, ("fine",))()["fine"]


def masks(size: Size) -> Iterator[Row]:
    """Masks by the segmenter, with the guided filter."""
    network, frozen, variables = make_network()
    origin = {"backbone": BACKBONE, "dtype": "float32", "origin": "drawn"}
    whole = trained.TrainedNetwork(network, frozen, variables, size.side, **origin)
    segment = load.network_segmenter(whole, invert="never", batch_size=size.batch)
    images = draw_scenes(size)
    side = in_torch(size, "masks", frozen, variables, images, size.plain)
    name = f"mask by the segmenter, {size.side} px, batch {size.batch}"
    yield Row(name, ours(lambda: np.stack(segment(list(images)))), side, size.batch)


def input_pipeline(size: Size) -> Iterator[Row]:
    """Training batches of 8 from a folder of images: decoded, resized, cropped at random."""
    if size.images is None:
        raise ValueError("the input pipeline is measured on a folder of images: give --images")
    source = image_sources.open_images(size.images)
    sizes = {"image_size": size.side, "resize_size": math.ceil(size.side * 355 / 320)}
    for name, workers in (("1 thread", 0), ("1 worker", 1)):
        batches = pipeline.training_batches(
            source, batch_size=8, seed=0, threads=1, workers=workers, **sizes
        )
        take = functools.partial(lambda batches: [next(batches) for _ in range(12)], batches)
        yield Row(f"input pipeline, {name}", ours(take), items=8 * 12)
        batches.close()


ROWS: dict[str, Callable[[Size], Iterator[Row]]] = {
    "ncut": ncut,
    "guided_filter": guided_filters,
    "training": training,
    "mask": masks,
    "input": input_pipeline,
}
WORKS = {"mask": mask_work, "training step, both tricks": training_work}
"""What the rows "memory" and "gpu" measure."""


def check_agreement(row: Row, other: Side) -> None:
    """Run both sides and raise a ValueError if their results differ by more than the tolerance."""
    found, expected = (jax.tree.leaves(side.run()) for side in (row.ours, other))
    inside = np.s_[row.border : -row.border, row.border : -row.border] if row.border else ...
    for mine, theirs in zip(found, expected, strict=True):
        mine, theirs = (np.asarray(x, np.float64)[inside] for x in (mine, theirs))
        difference = float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        # NaN is within no tolerance.
        if not difference <= row.tolerance:
            raise ValueError(
                f"{row.name}: ours and {other.label} differ by {difference:.1e} of the largest "
                f"value, more than {row.tolerance:.0e}"
            )


def sample(side: Side, calls: int) -> float:
    """Return the seconds of a call, averaged over some."""
    started = time.perf_counter()
    for _ in range(calls):
        side.run()
    return (time.perf_counter() - started) / calls


def time_row(row: Row, repeats: int) -> dict[str, Any]:
    """Compare both sides of a row and measure them in turns."""
    if row.other is None:
        row.ours.run()
    else:
        check_agreement(row, row.other)
    sides = [side for side in (row.ours, row.other) if side is not None]
    calls = [math.ceil(SAMPLE_SECONDS / sample(side, 1)) for side in sides]
    turns = [[sample(*each) for each in zip(sides, calls, strict=True)] for _ in range(repeats)]
    seconds = np.median(turns, axis=0) / row.items
    record = {"row": row.name, "seconds": seconds[0], "samples": turns, "items": row.items}
    if row.other is not None:
        ratios = np.quantile([ours / other for ours, other in turns], (0.25, 0.5, 0.75))
        record |= {"other": row.other.label, "other_seconds": seconds[1], "ratio": list(ratios)}
    return record


def measure_work(work: str, size: Size, dtype: str, repeats: int, doubled: bool) -> list[Any]:
    """Measure time and peak memory of a work; called in a process of its own.

    Where the batch is ``doubled``, until it does not fit, there is a record of each that fits.
    """
    records: list[Any] = []
    try:
        while doubled or not records:
            name = f"{work}, {dtype}, {size.side} px, batch {size.batch}"
            row = Row(name, ours(WORKS[work](size, dtype)), items=size.batch)
            record = time_row(row, repeats)
            # Kilobytes of this process, on a Mac bytes, where the device has no memory of its own.
            unit = 1 if sys.platform == "darwin" else 1024
            record["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
            if statistics := jax.local_devices()[0].memory_stats():
                record["peak_bytes"] = statistics["peak_bytes_in_use"]
            records.append(record)
            size = size._replace(batch=2 * size.batch)
    except out_of_memory.MEMORY_ERRORS as error:
        if not records or out_of_memory.describe_out_of_memory(error) is None:
            raise
        records[-1]["row"] += ", the largest that fits"
    return records


def measure(chosen: Sequence[str], size: Size, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure the chosen rows, one after the other."""
    # First, while this process has little memory itself: Linux hands its peak on.
    alone = [(work, size, "float32", 2, False) for work in WORKS if "memory" in chosen]
    for dtype in ("float32", "bfloat16") if "gpu" in chosen else ():
        alone += [(work, size, dtype, repeats, True) for work in WORKS]
    context = multiprocessing.get_context("spawn")
    for arguments in alone:
        with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
            yield from executor.submit(measure_work, *arguments).result()
    for name, rows in ROWS.items():
        for row in rows(size) if name in chosen else ():
            yield time_row(row, repeats)


def describe_machine() -> dict[str, Any]:
    """Describe processor, cores, device and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search("model name.*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    packages = ("jax", "jaxlib", "flax", "numpy", "torch", "opencv-contrib-python-headless")
    installed = {each.name: each.version for each in importlib.metadata.distributions()}
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "devices": ", ".join(device.device_kind for device in jax.local_devices()),
        "python": platform.python_version(),
        **{name: installed[name] for name in packages if name in installed},
    }


def table_row(record: dict[str, Any]) -> str:
    """Format a row of the table."""

    def duration(seconds: float) -> str:
        return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"

    seconds = record["seconds"]
    cells = [record["row"], duration(seconds), f"{1 / seconds:.3g}", "", "", ""]
    if "other" in record:
        cells[3] = f"{record['other']} {duration(record['other_seconds'])}"
        cells[4] = "{1:.2f} [{0:.2f}, {2:.2f}]".format(*record["ratio"])
    if "peak_bytes" in record:
        cells[5] = f"{record['peak_bytes'] / 2**30:.2f} GiB"
    return f"| {' | '.join(cells)} |"


def _main() -> None:
    if _DEVICE.value != "auto":
        os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[_DEVICE.value]
        jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
    # This process shares a GPU with PyTorch; those that it starts take most of its memory.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    gpu = jax.default_backend() == "gpu"
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".9"}
    known = ["memory", "gpu", *ROWS]
    chosen = _ONLY.value
    if chosen is None:
        without = {"gpu": gpu, "input": _IMAGES.value}
        chosen = [name for name in known if without.get(name, True)]
    if not chosen or not set(chosen) <= set(known):
        raise ValueError(f"--only={','.join(chosen)}: choose among {', '.join(known)}")
    if "gpu" in chosen and not gpu:
        raise ValueError("--only=gpu: JAX finds no GPU")
    size, repeats = Size(_SIZE.value, _BATCH.value, _IMAGES.value, _PLAIN.value), _REPEATS.value
    if _SMALL.value:
        size, repeats = size._replace(side=64, batch=1), 2
    # A GPU would round float32 to TF32.
    jax.config.update("jax_default_matmul_precision", "highest")
    machine = describe_machine()
    print(*(f"{name}: {value}" for name, value in machine.items()), HEAD, sep="\n", flush=True)
    measured = []
    for record in measure(chosen, size, repeats):
        print(table_row(record), flush=True)
        measured.append(record)
        if _OUT.value:
            text = json.dumps({"machine": machine, "rows": measured}, indent=1)
            atomic_write.write_atomically(Path(_OUT.value), text + "\n")


if __name__ == "__main__":
    command_line.run(_main)
