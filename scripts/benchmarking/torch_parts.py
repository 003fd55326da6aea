"""Theirs: the parts of a training step in PyTorch by themselves."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sempart_jax.two_tricks.augment import Augmentation

from . import torch_losses as losses
from .child import Work
from .inputs import patch_inputs, random_images, relative
from .torch_augment import augment_batch
from .torch_workloads import device_name, make_model, on_device, wait


def part(*, name: str, backbone: str, batch: int, side: int, dtype: str) -> Work:
    """One of ``workloads.PARTS``, on arrays that lie on the device."""
    model = make_model(backbone, dtype)
    pixels = on_device(random_images(batch, side))
    image = pixels.float() / 255
    normalized, grid = model.normalize(image), model.grid(image)
    width = model.backbone.class_token.shape[-1]
    keys, coarse = map(on_device, patch_inputs(batch, grid[0], width))
    keys, fine = keys.flatten(2).transpose(1, 2).contiguous(), image[:, :1].contiguous()
    parameters = list(model.head.parameters())

    def predict() -> list[Tensor]:
        tokens = model.head.tokens(keys)
        return [model.head.coarse(tokens, grid), model.head.fine(tokens, normalized, grid)]

    def head_gradient() -> Any:
        total = sum((mask.mean() for mask in predict()), torch.zeros((), device=keys.device))
        return torch.autograd.grad(total, parameters)

    def coarse_gradient() -> Any:
        total = model.head.coarse(model.head.tokens(keys), grid).mean()
        return torch.autograd.grad(total, parameters, allow_unused=True)

    def all_losses() -> Any:
        masks = [mask.detach().requires_grad_() for mask in (coarse, fine)]
        total = (
            losses.normalized_cut(keys, masks[0])
            + losses.graph_total_variation_fine(normalized, masks[1])
            + losses.graph_total_variation_coarse(keys, masks[0])
            + losses.coarse_fine_consistency(masks[0], masks[1])
        )
        return [total.detach(), *torch.autograd.grad(total, masks)]

    def zoom_and_filter() -> list[Tensor]:
        corners = [(side // 4, side // 4)] * batch
        zoomed = losses.crop_and_zoom(image, corners, (side // 2, side // 2))
        return [model.refine(zoomed, fine).clamp(1e-6, 1 - 1e-6)]

    functions: dict[str, Callable[[], Any]] = {
        "augmentation": lambda: augment_batch(pixels.float() / 255, Augmentation()),
        "backbone": lambda: model.keys(normalized),
        "head forward": torch.no_grad()(predict),
        "head forward and backward": head_gradient,
        "coarse branch forward and backward": coarse_gradient,
        "losses forward and backward": all_losses,
        "zoom and guided filter": zoom_and_filter,
    }
    function = functions[name]

    def run() -> Any:
        outputs = function()
        wait()
        return outputs

    return Work(run, lambda: relative([x.cpu().numpy() for x in run()]), device_name())
