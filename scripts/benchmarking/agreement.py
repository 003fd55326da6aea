"""Does the PyTorch twin compute what ours computes? One set of weights and images into both."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from sempart_jax.networks.names import Architecture
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.interfaces import Variables
from sempart_jax.two_tricks.objective import SempartObjective, evaluate_objective
from sempart_jax.two_tricks.segmenter import Segmenter
from sempart_jax.two_tricks.vit import VisionTransformer

from .torch_networks import flax_state, load_flax
from .torch_sempart import Sempart, weighted_total

ARCHITECTURE = Architecture(patch_size=8, width=48, depth=3, num_heads=3)
TRAINED_GRID, SIDE, RADIUS = 6, 96, 3
CORNERS = ((5, 40), (48, 0))
BOUNDS = {"loss terms": 1e-4, "gradients": 1e-3, "running averages": 1e-3, "masks": 1e-4}
"""What the largest difference of each kind may be."""


@dataclasses.dataclass(frozen=True)
class Differences:
    """How far the two are apart, by name of what is compared.

    Attributes:
        terms: relative, of every loss term and of the total.
        gradients: of every parameter of the head, as norms: of the difference, relative to the
            tensor's, or to a thousandth of the whole head's where a tensor has rounding alone.
        averages: relative, of batch norm's running averages after the step.
        masks: absolute, of the predicted masks before and after the guided filter.
    """

    terms: dict[str, float]
    gradients: dict[str, float]
    averages: dict[str, float]
    masks: dict[str, float]

    def largest(self) -> dict[str, float]:
        """Return the largest of each kind, by the names of :data:`BOUNDS`."""
        kinds = (self.terms, self.gradients, self.averages, self.masks)
        return {name: max(kind.values()) for name, kind in zip(BOUNDS, kinds, strict=True)}


def check_agreement() -> dict[str, float]:
    """Compare both implementations with both tricks; a step without them has fewer of these terms.

    Returns:
        The largest difference of each kind, by the names of :data:`BOUNDS`.

    Raises:
        RuntimeError: if one is beyond its bound.
    """
    return within_bounds(differences())


def within_bounds(found: Differences) -> dict[str, float]:
    """Return the largest difference of each kind.

    Raises:
        RuntimeError: if one is beyond its bound: a comparison of times would mean nothing.
    """
    largest = found.largest()
    # NaN is in no bound.
    if not all(largest[name] <= bound for name, bound in BOUNDS.items()):
        listed = ", ".join(f"{n} {largest[n]:.1e} (at most {b:.0e})" for n, b in BOUNDS.items())
        raise RuntimeError(f"ours and the PyTorch twin compute different things: {listed}")
    return largest


def differences(seed: int = 0) -> Differences:
    """Compare one training step's losses and gradients, and a prediction, of a small network.

    Args:
        seed: of weights and images.
    """
    segmenter = Segmenter(
        VisionTransformer(**dataclasses.asdict(ARCHITECTURE), trained_grid=TRAINED_GRID),
        SegmentationHead(patch_size=8),
        radius=RADIUS,
    )
    image = _smooth_images(seed)
    keys = jax.random.split(jax.random.key(seed))
    backbone_params = jax.jit(segmenter.backbone.init)(keys[0], image)["params"]
    variables = segmenter.init(keys[1], backbone_params, SIDE)

    @jax.jit
    def step(params: Variables) -> tuple[Variables, tuple[Variables, Variables]]:
        def total(params: Variables) -> tuple[jax.Array, tuple[Variables, Variables]]:
            evaluation = evaluate_objective(
                SempartObjective(),
                segmenter,
                backbone_params,
                {**variables, "params": params},
                image,
                jnp.asarray(CORNERS, jnp.int32),
            )
            terms = {"total": evaluation.total, **evaluation.terms}
            return evaluation.total, (terms, evaluation.student.batch_stats)

        return jax.grad(total, has_aux=True)(params)

    gradients, (terms, averages) = jax.device_get(step(variables["params"]))

    model = Sempart(ARCHITECTURE, radius=RADIUS, trained_grid=TRAINED_GRID)
    load_flax(model.backbone, jax.device_get(backbone_params), {})
    load_flax(model.head, variables["params"], variables["batch_stats"])
    torch_image = torch.from_numpy(np.array(image)).permute(0, 3, 1, 2)
    torch_terms = model.loss_terms(torch_image, list(CORNERS))
    torch_terms["total"] = weighted_total(torch_terms)
    torch_terms["total"].backward()

    expected_gradients = flax_state(model.head, gradients, {})
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in expected_gradients.values()]))
    expected_averages = flax_state(model.head, {}, averages)
    state = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    # Whatever the two made of their averages: the predictions start from the same.
    load_flax(model.head, variables["params"], averages)
    model.eval()
    trained = jax.device_put({**variables, "batch_stats": averages})
    fine = segmenter.predict(backbone_params, trained, image).fine
    masks = {"fine": fine, "refined": segmenter.refine(image, fine)}
    found_masks = {name: model.predict(torch_image, refined=name == "refined") for name in masks}
    return Differences(
        terms={
            name: _relative(value.detach(), torch.tensor(terms[name]))
            for name, value in torch_terms.items()
        },
        gradients={
            name: _relative(parameter.grad, expected_gradients[name], 1e-3 * float(norm))
            for name, parameter in model.head.named_parameters()
        },
        averages={
            name: _relative(state[name], average) for name, average in expected_averages.items()
        },
        masks={
            name: float(np.abs(found_masks[name].permute(0, 2, 3, 1).numpy() - mask).max())
            for name, mask in masks.items()
        },
    )


def _relative(found: Tensor | None, expected: Tensor, floor: float = 0.0) -> float:
    """Norm of the difference over that of the expected tensor, which counts as ``floor`` at least.

    Norms, not the largest element: a pixel whose activation rounds to the other side of leaky
    ReLU's kink changes its own gradient by all of it.
    """
    if found is None:
        return float("inf")
    return float((found - expected).norm() / expected.norm().clamp(min=floor))


def _smooth_images(seed: int) -> jax.Array:
    """Draw RGB images without noise, on whose rounding thresholded affinities would hang."""
    coarse = np.random.default_rng(seed).uniform(size=(len(CORNERS), SIDE // 8, SIDE // 8, 3))
    shape = (len(CORNERS), SIDE, SIDE, 3)
    return jnp.clip(jax.image.resize(jnp.asarray(coarse, jnp.float32), shape, "cubic"), 0, 1)
