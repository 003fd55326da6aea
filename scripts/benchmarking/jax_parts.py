"""Ours: the parts of a training step by themselves, to see where its time goes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sempart_jax.kernels.normalization import normalize
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.names import RANDOM_WEIGHTS
from sempart_jax.two_tricks import losses
from sempart_jax.two_tricks.augment import Augmentation, augment_batch
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.multiscale import crop_and_zoom, teacher_target

from .child import Work
from .inputs import patch_inputs, random_images, relative


def part(*, name: str, backbone: str, batch: int, side: int, dtype: str) -> Work:
    """One of ``workloads.PARTS``, on arrays that lie on the device."""
    module: Any
    module, frozen_params = load_backbone(backbone, RANDOM_WEIGHTS, dtype)
    patch_size: int = module.patch_size
    pixels = jnp.asarray(random_images(batch, side))
    image = pixels.astype(jnp.float32) / 255
    normalized = normalize(image)
    keys, coarse = map(jnp.asarray, patch_inputs(batch, side // patch_size, module.width))
    fine = image[..., :1]
    head = SegmentationHead(patch_size)
    variables: Any = jax.jit(head.init)(jax.random.key(0), keys, normalized)

    def predict(params: Any, keys: Array, normalized: Array) -> Any:
        outputs, _ = head.apply(
            {**variables, "params": params}, keys, normalized, train=True, mutable=["batch_stats"]
        )
        return jax.nn.sigmoid(outputs["coarse"]), jax.nn.sigmoid(outputs["fine"])

    def both_means(params: Any, keys: Array, normalized: Array) -> Array:
        return sum(mask.mean() for mask in predict(params, keys, normalized))

    def coarse_mean(params: Any, keys: Array, normalized: Array) -> Array:
        return predict(params, keys, normalized)[0].mean()

    def all_losses(masks: tuple[Array, Array], keys: Array, normalized: Array) -> Array:
        return (
            losses.normalized_cut(keys, masks[0])
            + losses.graph_total_variation_fine(normalized, masks[1])
            + losses.graph_total_variation_coarse(keys, masks[0])
            + losses.coarse_fine_consistency(*masks)
        )

    def zoom_and_filter(image: Array, fine: Array) -> Array:
        corners = jnp.zeros((batch, 2), jnp.int32) + side // 4
        return teacher_target(crop_and_zoom(image, corners, side // 2, side // 2), fine)

    random_keys = jax.random.split(jax.random.key(0), batch)
    augmentation = Augmentation()
    functions: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "augmentation": (
            lambda keys, x: augment_batch(keys, x, augmentation),
            (random_keys, pixels),
        ),
        "backbone": (
            lambda params, image: module.apply({"params": params}, image)["keys"],
            (frozen_params, normalized),
        ),
        "head forward": (predict, (variables["params"], keys, normalized)),
        "head forward and backward": (
            jax.grad(both_means),
            (variables["params"], keys, normalized),
        ),
        "coarse branch forward and backward": (
            jax.grad(coarse_mean),
            (variables["params"], keys, normalized),
        ),
        "losses forward and backward": (
            jax.value_and_grad(all_losses),
            ((coarse, fine), keys, normalized),
        ),
        "zoom and guided filter": (zoom_and_filter, (image, fine)),
    }
    function, arguments = functions[name]
    compiled, arguments = jax.jit(function), jax.device_put(arguments)

    def run() -> Any:
        return jax.block_until_ready(compiled(*arguments))

    return Work(run, lambda: relative(jax.tree.leaves(run())), jax.devices()[0].device_kind)
