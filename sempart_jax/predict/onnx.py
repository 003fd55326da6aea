"""Write a network as one ONNX file, which runs without JAX and without this package."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Float, UInt8

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.kernels.host_guided_filter import guided_radius
from sempart_jax.kernels.normalization import from_bytes
from sempart_jax.predict.predictor import input_shapes
from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.two_tricks.filters import grey_guide, guided_filter

if TYPE_CHECKING:
    from onnx import ModelProto

REFINEMENTS = ("none", "guided")
"""Post-processings that can be in the file."""

# What a wrong conversion is off by more than, and another device's rounding by less.
_CHECKED = 1e-2
_CALLS = {"jit", "custom_jvp_call", "custom_vjp_call", "checkpoint"}


def export_onnx(
    segmenter: Segmenter, path: str | os.PathLike[str], size: tuple[int, int] | None = None
) -> None:
    """Write the file, see ``Segmenter.export``; it appears whole or not at all."""
    network, path = segmenter.network, Path(path)
    shapes = sorted(input_shapes(segmenter.predictor.short_side, network.patch_size))
    size = segmenter.predictor.input_size(1, 1) if size is None else size
    if size not in shapes:
        raise ValueError(
            f"this segmenter sees images at {', '.join(f'{h}x{w}' for h, w in shapes)} (height x "
            f"width), got {size}: give one of them, or load it with another resolution"
        )
    if segmenter.refine not in REFINEMENTS:
        raise ValueError(
            f"refine {segmenter.refine!r} cannot be in an ONNX file: load the segmenter with one "
            f"of {', '.join(REFINEMENTS)}"
        )
    if importlib.util.find_spec("jax2onnx") is None:
        raise ModuleNotFoundError(
            "an ONNX file is written by jax2onnx: pip install 'sempart_jax[onnx]', or "
            "pip install jax2onnx"
        )
    if path.exists() or path.is_symlink():
        raise ValueError(f"{path} exists: remove it, or export to another file")
    try:
        model = _convert(_masks_of(segmenter), size)
        content = _checked(segmenter, model, size)
    except Exception as error:
        raise ValueError(
            f"jax2onnx cannot convert this network ({network.origin}): {error}"
        ) from error
    write_atomically(path, content)


def _masks_of(segmenter: Segmenter) -> Callable[[UInt8[Array, "B H W 3"]], Float[Array, "B H W"]]:
    """Return what the segmenter does to images of a size at which it sees them, for tracing."""
    network = segmenter.network
    frozen_params, variables = jax.tree.map(jnp.asarray, (network.frozen_params, network.variables))

    def masks(image: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W"]:
        rgb = from_bytes(image)
        mask = network.modules.predict(frozen_params, variables, rgb).fine
        # As predict.pictures.choose_side and predict.postprocessing do.
        if segmenter.invert == "always":
            mask = 1 - mask
        if segmenter.invert == "auto":
            mask = jnp.where(mask.mean((1, 2, 3), keepdims=True) > 0.5, 1 - mask, mask)
        if segmenter.refine == "guided":
            mask = guided_filter(grey_guide(rgb), mask, guided_radius(*image.shape[1:3]))
        return jnp.clip(mask[..., 0], 0, 1)

    return masks


def _convert(function: Callable[[Array], Array], size: tuple[int, int]) -> "ModelProto":
    from jax2onnx import to_onnx

    (batch,) = export.symbolic_shape("batch", constraints=["batch >= 1"])
    image = jax.ShapeDtypeStruct((batch, *size, 3), jnp.uint8)
    # Traced before jax2onnx puts functions of its own in the place of JAX's, of which some want a
    # batch of a known size.
    traced = jax.make_jaxpr(function)(image)
    model = to_onnx(
        lambda image: _evaluate(traced, [image])[0],
        [image],
        input_names=["image"],
        output_names=["mask"],
        model_name="sempart_jax",
    )
    # Shapes of intermediate results, of which jax2onnx writes wrong ones.
    del model.graph.value_info[:]
    return model


def _evaluate(traced: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """Apply a traced function, with what ONNX cannot say put in other words.

    Where there are branches for platforms, the last one is taken, which is for any.
    """
    program = traced.jaxpr
    values: dict[Any, Any] = dict(
        zip(
            [*program.constvars, *program.invars],
            [*traced.consts, *arguments],
            strict=True,
        )
    )

    def value(of: Any) -> Any:
        return of.val if isinstance(of, Literal) else values[of]

    for equation in program.eqns:
        name, parameters = equation.primitive.name, equation.params
        inputs: list[Any] = [value(each) for each in equation.invars]
        outputs: Any
        if name == "platform_index":
            outputs = [None]
        elif "branches_platforms" in parameters:
            outputs = _evaluate(parameters["branches"][-1], inputs[1:])
        elif name in _CALLS:
            called = parameters.get("jaxpr") or parameters["call_jaxpr"]
            closed = called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, ())
            outputs = _evaluate(closed, inputs)
        elif name == "pad" and not any(inside for _, _, inside in parameters["padding_config"]):
            widths = [(low, high) for low, high, _ in parameters["padding_config"]]
            outputs = [jnp.pad(inputs[0], widths, constant_values=inputs[1])]
        else:
            # jax2onnx wants numbers, such as those that fill a margin, to be known.
            numbers = all(each.aval.shape == () for each in equation.outvars)
            known = numbers and not any(isinstance(each, Tracer) for each in inputs)
            with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
                outputs = equation.primitive.bind(*inputs, **parameters)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [value(each) for each in program.outvars]


def _checked(segmenter: Segmenter, model: "ModelProto", size: tuple[int, int]) -> bytes:
    """Return a model as bytes, once its masks are those of the segmenter."""
    import onnxruntime

    described = {"origin": segmenter.network.origin, "refine": segmenter.refine}
    for key, text in {**described, "invert": segmenter.invert}.items():
        model.metadata_props.add(key=key, value=text)
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    for count in (1, 2):
        (masks,) = session.run(None, {"image": images[:count]})
        error = np.abs(masks - np.stack(segmenter(list(images[:count])))).max()
        if not error <= _CHECKED:
            raise ValueError(f"its masks are off by {error:.2g}")
    return content
