"""All comparisons: what is measured against what, in groups."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sempart_jax.predict.postprocessing import guided_radius

from .checks import agree, interiors_agree, tell_errors
from .inputs import BATCH, BATCHES
from .paired import Pair, Side

GROUPS = (
    "training",
    "parts",
    "inference",
    "filter",
    "ncut",
    "input",
    "first_step",
    "kernels",
)
PARTS = (
    "augmentation",
    "backbone",
    "head forward",
    "head forward and backward",
    "coarse branch forward and backward",
    "losses forward and backward",
    "zoom and guided filter",
)
"""Parts of a training step. With both tricks a step takes the backbone twice, the head forward and
backward for whole images, and for zoomed ones forward, and backward in the coarse branch alone."""

NEEDS = {
    "filter": ("torch", "opencv-contrib-python-headless"),
    "kernels": (),
}
"""Packages of others that a group needs; PyTorch where nothing is said."""

JAX_ENVIRONMENT = {
    # On an accelerator both sides are there at once, and each would take all its memory.
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45",
}
RADIUS = 9


@dataclasses.dataclass(frozen=True)
class Size:
    """How large the networks' workloads are.

    Attributes:
        backbone: name of the backbone.
        side: of the images, in pixels.
        batch: images a step.
    """

    backbone: str = "dino_vits8"
    side: int = 320
    batch: int = 2


def all_pairs(
    groups: Sequence[str], size: Size, *, images: str | None, cores: int, cache: str
) -> list[Pair]:
    """Return the comparisons of some groups.

    Args:
        groups: some of :data:`GROUPS`.
        size: of the networks' workloads.
        images: folder of image files, for the group ``input``.
        cores: of this machine.
        cache: empty folder for what JAX has compiled, for the group ``first_step``.
    """
    makers: dict[str, Callable[[], list[Pair]]] = {
        "training": lambda: [
            _training(size, tricks, plain=plain)
            for tricks in (True, False)
            for plain in (False, True)
        ],
        "parts": lambda: [_part(size, name) for name in PARTS],
        "inference": lambda: [
            _inference(size, refined, plain=plain)
            for refined in (True, False)
            for plain in (False, True)
        ],
        "filter": _filters,
        "ncut": lambda: [_ncut(8, size.side // 8)],
        "input": lambda: _input(images, cores),
        "first_step": lambda: _first_steps(size, cache),
        "kernels": _kernels,
    }
    return [pair for group in groups for pair in makers[group]()]


def needed_packages(pairs: Sequence[Pair]) -> set[str]:
    """Return the packages of others that some comparisons need."""
    return {name for pair in pairs for name in NEEDS.get(pair.group, ("torch",))}


def device_pairs(size: Size, batches: Sequence[int]) -> list[Pair]:
    """Return training and inference at several batch sizes and types of the backbone."""
    pairs = []
    for dtype in ("float32", "bfloat16"):
        for batch in batches:
            at = dataclasses.replace(size, batch=batch)
            pairs += [_training(at, True, dtype), _inference(at, True, dtype)]
    return [dataclasses.replace(pair, group="device") for pair in pairs]


def _sides(function: str, options: Mapping[str, Any], *, plain: bool = False) -> tuple[Side, Side]:
    builder = f"benchmarking.torch_workloads:{function}"
    return (
        _ours("ours", f"benchmarking.jax_workloads:{function}", options),
        Side("plain PyTorch", builder, {**options, "plain": True})
        if plain
        else Side("PyTorch", builder, options),
    )


def _options(size: Size, dtype: str, **others: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(size), "dtype": dtype, **others}


def _training(size: Size, tricks: bool, dtype: str = "float32", *, plain: bool = False) -> Pair:
    name = f"training step, {'both tricks' if tricks else 'no trick'}, {_at(size, dtype)}"
    options = _options(size, dtype, tricks=tricks)
    return Pair("training", name, *_sides("training", options, plain=plain), items=size.batch)


def _part(size: Size, name: str) -> Pair:
    options = _options(size, "float32", name=name)
    sides = (
        _ours("ours", "benchmarking.jax_parts:part", options),
        Side("PyTorch", "benchmarking.torch_parts:part", options),
    )
    # The others have random numbers or weights of their own.
    comparable = name in ("losses forward and backward", "zoom and guided filter")
    return Pair(
        "parts",
        f"part: {name}, {_at(size, 'float32')}",
        *sides,
        items=size.batch,
        check=agree if comparable else None,
    )


def _inference(size: Size, refined: bool, dtype: str = "float32", *, plain: bool = False) -> Pair:
    name = f"inference, {'with' if refined else 'without'} guided filter, {_at(size, dtype)}"
    options = _options(size, dtype, refined=refined)
    return Pair("inference", name, *_sides("inference", options, plain=plain), items=size.batch)


def _at(size: Size, dtype: str) -> str:
    return f"{size.backbone}, {size.side} px, batch {size.batch}" + (
        "" if dtype == "float32" else f", backbone in {dtype}"
    )


def _filters() -> list[Pair]:
    pairs = []
    for height, width in ((320, 320), (3000, 4000)):
        options = {"height": height, "width": width, "radius": RADIUS}
        host = _ours("ours, host", "benchmarking.jax_workloads:guided_on_host", options)
        jitted = _ours("ours, jitted", "benchmarking.jax_workloads:guided_jitted", options)
        opencv = Side("OpenCV", "benchmarking.opencv_workloads:guided", options)
        torch = Side("PyTorch", "benchmarking.torch_workloads:guided", options)
        for ours, theirs, check in (
            (host, opencv, interiors_agree),
            (jitted, opencv, interiors_agree),
            (jitted, torch, agree),
        ):
            name = f"guided filter ({ours.label}), {height}x{width}"
            pairs.append(Pair("filter", name, ours, theirs, check=check))
    return pairs


def _ncut(batch: int, grid: int) -> Pair:
    options = {"batch": batch, "grid": grid, "channels": 384}
    name = f"N-cut, value and gradient, {grid}x{grid} patches, batch {batch}"
    return Pair("ncut", name, *_sides("cut", options), per="batch", check=agree)


def _input(images: str | None, cores: int) -> list[Pair]:
    if images is None:
        raise ValueError("the input pipeline is measured on a folder of images: give --images")
    settings = [(0, 0, 1), (1, 1, 1)]
    if cores > 1:
        settings += [(0, cores, cores), (cores, cores, cores)]
    pairs = []
    for ours, theirs, used in settings:
        how = f"{ours} workers" if ours else "threads"
        name = f"input pipeline, {how}, {used} core{'s' if used > 1 else ''}"
        options = {"images": images, "cores": used}
        pipeline = Side(
            "ours", "benchmarking.input_workloads:pipeline", {**options, "workers": ours}
        )
        loader = Side(
            "PyTorch", "benchmarking.input_workloads:loader", {**options, "workers": theirs}
        )
        pairs.append(Pair("input", name, pipeline, loader, items=BATCH * BATCHES))
    return pairs


def _first_steps(size: Size, cache: str) -> list[Pair]:
    ours, theirs = _sides("training", _options(size, "float32", tricks=True))
    pairs = []
    for name, environment in (
        ("nothing compiled before", {"JAX_ENABLE_COMPILATION_CACHE": "false"}),
        ("JAX's compilation cache filled", {"JAX_COMPILATION_CACHE_DIR": cache}),
    ):
        side = dataclasses.replace(ours, environment={**ours.environment, **environment})
        pair = Pair(
            "first_step", f"from start to first step, {name}", side, theirs, per="start", fresh=True
        )
        pairs.append(pair)
    return pairs


def _kernels() -> list[Pair]:
    pairs = []
    for height, width in ((320, 320), (3000, 4000)):
        options = {"height": height, "width": width, "radius": RADIUS}
        sides = _both("benchmarking.jax_kernels:box", "running sums", options)
        pairs.append(Pair("kernels", f"box filter, {height}x{width}", *sides, check=tell_errors))
    for height, width in ((300, 400), (375, 500), (3000, 4000)):
        radius = guided_radius(height, width)
        options = {"height": height, "width": width, "radius": radius}
        host = _ours("host", "benchmarking.jax_workloads:guided_on_host", options)
        jitted = _ours("jitted", "benchmarking.jax_workloads:guided_jitted", options)
        name = f"guided filter, radius {radius}, {height}x{width}"
        pairs.append(Pair("kernels", name, host, jitted, check=agree))
    for batch, side in ((1, 320), (4, 128)):
        options = {"batch": batch, "side": side, "inputs": 128, "outputs": 128}
        sides = _both("benchmarking.jax_kernels:weight_gradient", "XLA's", options)
        name = f"3x3 convolution 128 -> 128, weight gradient, {batch} x {side}x{side}"
        pairs.append(Pair("kernels", name, *sides, per="batch", check=agree))
        # What a gradient may cost.
        forward = _ours("forward pass", "benchmarking.jax_kernels:convolution", options)
        pairs.append(Pair("kernels", name, sides[0], forward, per="batch"))
    return pairs


def _both(builder: str, other: str, options: Mapping[str, Any]) -> tuple[Side, Side]:
    return (
        _ours("ours", builder, {**options, "ours": True}),
        _ours(other, builder, {**options, "ours": False}),
    )


def _ours(label: str, builder: str, options: Mapping[str, Any]) -> Side:
    return Side(label, builder, options, JAX_ENVIRONMENT)
