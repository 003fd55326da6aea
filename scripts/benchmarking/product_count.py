"""How much a work has to multiply, counted from the program itself.

A multiplication and the addition after it are two operations. Matrix products and convolutions
count, what stands between them does not: they are what a rate of matrix products can be held
against. A gradient counts twice its forward pass, and nothing is counted again that is computed
again to save memory.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from sempart_jax.networks.pretrained import create_backbone
from sempart_jax.two_tricks.head import SegmentationHead


class Passes(NamedTuple):
    """Operations of one forward pass for one image.

    Attributes:
        backbone: up to the keys of the last block; what else is in that block is not computed.
        head: coarse and fine branch.
    """

    backbone: int
    head: int


def count_passes(backbone: str, side: int) -> Passes:
    """Count both forward passes of Sempart.

    To be called where JAX computes on a CPU: fused kernels of others are no products that it sees.

    Args:
        backbone: name of the backbone.
        side: of the image in pixels.
    """
    module = create_backbone(backbone)
    # Position embeddings are resampled once for all images, which is no part of one.
    module = module.clone(trained_grid=max(side // module.patch_size, 1))
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), image)
    keys = jax.eval_shape(module.apply, params, image)["keys"]
    head = SegmentationHead(module.patch_size)
    variables = jax.eval_shape(head.init, jax.random.key(0), keys, image)
    return Passes(
        count_products(lambda params, image: module.apply(params, image)["keys"], params, image),
        count_products(head.apply, variables, keys, image),
    )


def count_work(work: str, passes: Passes) -> int:
    """Count the operations of a work for one image.

    Args:
        work: a training step with both ``tricks`` or as ``baseline`` without one, or inference, for
            the ``refined`` or the ``fine`` mask.
        passes: those of a forward pass.
    """
    backbone, head = {
        # The teacher's pass counts as forward; the student's head has a gradient.
        "tricks": (2, 1 + 3),
        "baseline": (1, 3),
        "refined": (1, 1),
        "fine": (1, 1),
    }[work]
    return backbone * passes.backbone + head * passes.head


def count_products(function: Callable[..., Any], *arguments: Any) -> int:
    """Count the operations of all matrix products and convolutions of a function.

    What the results do not follow from does not count. Of the branches of a condition, such as
    those for several platforms, the largest one does.

    Args:
        function: is traced and not computed.
        arguments: arrays or their shapes.

    Raises:
        ValueError: if there are products in a loop whose number of turns is not known.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    total, needed = 0, {id(variable) for variable in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(map(id, equation.outvars)):
            needed.update(map(id, equation.invars))
            total += _count_equation(equation)
    return total


def _count_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return int(2 * equation.outvars[0].aval.size * kernel.size // outputs)
    inner = [_count(jaxpr) for value in params.values() for jaxpr in _programs(value)]
    if name == "cond":
        return max(inner)
    if name == "while" and any(inner):
        raise ValueError("matrix products in a loop whose number of turns is not known")
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _programs(value: Any) -> Iterator[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _programs(item)
