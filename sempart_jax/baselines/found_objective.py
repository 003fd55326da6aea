"""FOUND: a decoder learns what is not background (arXiv 2212.07834, Sec. 3.2 and 3.3)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array, lax
from jax.experimental.buffer_callback import Buffer, ExecutionContext, buffer_callback
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import binary_fill_holes, zoom

from sempart_jax.baselines.bilateral import bilateral_solver
from sempart_jax.baselines.found import background_mask
from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Evaluation, Examples, Objective, Prediction, Variables


@dataclasses.dataclass(frozen=True)
class FoundObjective(Objective[HeadNetwork]):
    """Cross-entropies with refined masks, see ``decoder_loss``.

    Attributes:
        tau: cosine above which a patch is background.
        background_steps: steps that learn from the background before the decoder teaches itself.
        refinement_weight: weight of the decoder's refined masks.
        self_weight: weight of its own masks.
    """

    tau: float = 0.3
    background_steps: int = 100
    refinement_weight: float = 1.5
    self_weight: float = 4.0

    def evaluate(
        self,
        network: HeadNetwork,
        frozen_params: Variables,
        variables: Variables,
        examples: Examples,
        *,
        keys: Array,
        step: Array,
    ) -> Evaluation:
        """Compute all terms, see :class:`Objective`; masks are refined on the host."""
        image = normalize(examples.image)
        features = network.features(frozen_params, image, class_attention=True)
        logits, batch_stats = network.logits(variables, features["keys"], image, train=True)
        coarse = logits["coarse"][..., 0]

        def refined_complement() -> Array:
            background = background_mask(features["keys"], features["class_attention"], self.tau)
            return refined_in_step(examples.image, ~background)

        total, terms = decoder_loss(
            coarse,
            refined_in_step(examples.image, lax.stop_gradient(coarse) > 0),
            # The refinement is most of a step's time: none for a target that is looked at no more.
            lax.cond(
                step < self.background_steps,
                refined_complement,
                lambda: jnp.zeros(coarse.shape, bool),
            ),
            step,
            background_steps=self.background_steps,
            refinement_weight=self.refinement_weight,
            self_weight=self.self_weight,
        )
        student = Prediction(
            coarse=nn.sigmoid(logits["coarse"]),
            fine=nn.sigmoid(logits["fine"]),
            batch_stats=batch_stats,
            keys=features["keys"],
        )
        return Evaluation(total, terms, student)


def decoder_loss(
    logits: Float[jax.Array, "B h w"],
    refined_prediction: Bool[jax.Array, "B h w"],
    refined_complement: Bool[jax.Array, "B h w"],
    step: Int[jax.Array, ""],
    *,
    background_steps: int = 100,
    refinement_weight: float = 1.5,
    self_weight: float = 4.0,
) -> tuple[Float[jax.Array, ""], dict[str, Float[jax.Array, ""]]]:
    """Compare the decoder's masks with their refinement, and with the background or themselves.

    The refined masks are a target throughout. Beside them the complement of the background is one
    at first, which tells the decoder where objects are; then, from ``background_steps`` on, its own
    decisions take that place. Targets are refined by :func:`refine_patch_masks`.

    Returns:
        The weighted sum, and each term before weighting: binary cross-entropies, means over batch
        and patches. ``refinement``; ``background``, 0 from ``background_steps`` on; ``self``, 0
        before.
    """

    def cross_entropy(target: Bool[jax.Array, "B h w"]) -> Float[jax.Array, ""]:
        per_patch = optax.sigmoid_binary_cross_entropy(logits, target.astype(logits.dtype))
        return jnp.mean(per_patch)

    first_phase = step < background_steps
    terms = {
        "refinement": cross_entropy(refined_prediction),
        "background": jnp.where(first_phase, cross_entropy(refined_complement), 0.0),
        "self": jnp.where(first_phase, 0.0, cross_entropy(logits > 0)),
    }
    # L = 1.5 L_refinement + (L_background, then 4 L_self)
    total = refinement_weight * terms["refinement"] + terms["background"]
    return total + self_weight * terms["self"], terms


def refined_in_step(
    image: Float[Array, "B H W 3"], mask: Bool[Array, "B h w"]
) -> Bool[Array, "B h w"]:
    """Refine masks by :func:`refine_patch_masks`, under ``jit``, ``grad`` and ``pmap``.

    Images are rounded to 8 bits. The devices of a host call it side by side, and share the host's
    time: under Python's lock, one core. No gradient flows through it.
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


def refine_patch_masks(
    images: UInt8[np.ndarray, "B H W 3"], masks: Bool[np.ndarray, "B h w"]
) -> Bool[np.ndarray, "B h w"]:
    """Refine binary masks on patches by the colours of their images.

    A mask is brought to the image's size, smoothed by the bilateral solver with sigmas of 16, 16
    and 8, its holes filled, and brought back to patches, where any foreground makes a patch
    foreground. A refinement whose IoU with the mask is 0.5 or less has gone astray: the mask then
    stays as it is, and so does an empty one.

    The released code drops the largest region of the refined mask, background or not. A foreground
    larger than the background is thereby swapped with it, and then fails the overlap test. Here a
    large foreground keeps its refinement like any other.

    Images are RGB; masks are True on foreground.
    """
    refined = [_refine(image, mask) for image, mask in zip(images, masks, strict=True)]
    return np.stack(refined) if refined else masks.copy()


def _refine(
    image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    enlarged = _resize(mask, image.shape[:2])
    solved = bilateral_solver(image, enlarged, sigma_spatial=16, sigma_luma=16, sigma_chroma=8)
    binary = binary_fill_holes(solved > 0.5)
    coarse = enlarged > 0.5
    # |A and B| / |A or B| > 1/2, and 0 / 0 is not
    overlap, union = np.count_nonzero(coarse & binary), np.count_nonzero(coarse | binary)
    return _resize(binary, mask.shape) > 0 if 2 * overlap > union else mask


def _resize(mask: Bool[np.ndarray, "h w"], shape: tuple[int, ...]) -> np.ndarray:
    """Resize bilinearly, no antialiasing, as :func:`sempart_jax.kernels.resize.resize_bilinear`."""
    # Float64: on patches of 8 pixels its sums are exact, and so are comparisons with thresholds.
    factors = [wanted / side for wanted, side in zip(shape, mask.shape, strict=True)]
    return zoom(mask.astype(np.float64), factors, order=1, mode="nearest", grid_mode=True)
