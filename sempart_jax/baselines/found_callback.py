"""The refinement of FOUND's targets, from within a compiled training step.

On CPU devices ``jax.pure_callback`` is not safe: it wraps its arguments in arrays that are filled
on the threads that run the step. In a step mapped over all of several CPU devices, each of these
threads waits within its callback for such an array, for ever. There the buffers of the step are
read in place instead.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental.buffer_callback import Buffer, ExecutionContext, buffer_callback
from jaxtyping import Bool, Float

from sempart_jax.baselines.found_refinement import refine_patch_masks


def refined_in_step(
    image: Float[Array, "B H W 3"], mask: Bool[Array, "B h w"]
) -> Bool[Array, "B h w"]:
    """Refine masks on patches by :func:`refine_patch_masks`, under ``jit``, ``grad`` and ``pmap``.

    The devices of a host call it side by side, and share the host's time: under Python's lock, one
    core. No gradient flows through it.

    Args:
        image: RGB ``[B, H, W, 3]`` in [0, 1], rounded to 8 bits for the bilateral solver.
        mask: masks on their patches ``[B, h, w]``, True on foreground.

    Returns:
        Refined masks ``[B, h, w]``.
    """
    pixels = jnp.round(255 * lax.stop_gradient(image)).astype(jnp.uint8)
    return lax.platform_dependent(pixels, mask, cpu=_on_cpu, default=_elsewhere)


def _on_cpu(pixels: Array, mask: Array) -> Array:
    def write(context: ExecutionContext, refined: Buffer, pixels: Buffer, mask: Buffer) -> None:
        del context
        np.asarray(refined)[...] = refine_patch_masks(np.asarray(pixels), np.asarray(mask))

    return buffer_callback(write, jax.ShapeDtypeStruct(mask.shape, mask.dtype))(pixels, mask)


def _elsewhere(pixels: Array, mask: Array) -> Array:
    def refine(pixels: Array, mask: Array) -> np.ndarray:
        return refine_patch_masks(np.asarray(pixels), np.asarray(mask))

    return jax.pure_callback(refine, jax.ShapeDtypeStruct(mask.shape, mask.dtype), pixels, mask)
