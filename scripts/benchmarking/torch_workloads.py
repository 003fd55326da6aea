"""Theirs: the same workloads in PyTorch and OpenCV."""

from typing import Any

import numpy as np
import torch

from sempart_jax.networks.names import BACKBONES
from sempart_jax.two_tricks.augment import Augmentation

from . import torch_losses
from .child import Work
from .inputs import filter_inputs, patch_inputs, random_images
from .torch_augment import augment_batch
from .torch_sempart import Sempart, make_optimizer, training_step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cuda":
    # As JAX multiplies float32 matrices there unless told otherwise.
    torch.set_float32_matmul_precision("high")
    # As XLA does, try which way to convolve is the fastest.
    torch.backends.cudnn.benchmark = True


def device() -> tuple[str, str]:
    """Return platform, as JAX calls it, and name of the device that everything runs on."""
    return "gpu" if DEVICE.type == "cuda" else DEVICE.type, device_name()


def device_name() -> str:
    """Name the device that everything runs on."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"


def wait() -> None:
    """Wait until the device has done all its work."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def make_model(backbone: str, dtype: str, plain: bool = False) -> Sempart:
    """Make the network, with random weights in its frozen backbone."""
    torch.manual_seed(0)
    model = Sempart(BACKBONES[backbone], backbone_dtype=getattr(torch, dtype), plain=plain)
    for parameter in model.backbone.parameters():
        if parameter.dim() > 1:
            torch.nn.init.trunc_normal_(parameter, std=0.02)
    return model.to(DEVICE)


def on_device(images: np.ndarray) -> torch.Tensor:
    """Take ``[B, H, W, C]`` to the device, as ``[B, C, H, W]``."""
    return torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2)


def training(
    *,
    backbone: str,
    batch: int,
    side: int,
    tricks: bool,
    dtype: str = "float32",
    plain: bool = False,
) -> Work:
    """The training step, from uint8 images on the host."""
    model = make_model(backbone, dtype, plain)
    optimizer = make_optimizer(model)
    images = random_images(batch, side)
    augmentation = Augmentation()

    def run() -> None:
        image = augment_batch(on_device(images).float() / 255, augmentation)
        corners = None
        if tricks:
            corners = [
                tuple(c) for c in torch.randint(0, side - side // 2 + 1, (batch, 2)).tolist()
            ]
        training_step(model, optimizer, image, corners)
        wait()

    return Work(run, device=device_name())


def inference(
    *,
    backbone: str,
    batch: int,
    side: int,
    refined: bool,
    dtype: str = "float32",
    plain: bool = False,
) -> Work:
    """Backbone, head and, if asked for, guided filter, from float images to masks on the host."""
    model = make_model(backbone, dtype, plain).eval()
    images = random_images(batch, side).astype(np.float32) / 255

    def run() -> Any:
        return model.predict(on_device(images), refined=refined).cpu().numpy()

    return Work(run, device=device_name())


def guided(*, height: int, width: int, radius: int) -> Work:
    """The guided filter, from uint8 RGB."""
    image, mask = filter_inputs(height, width)

    @torch.no_grad()
    def run() -> np.ndarray:
        guide = on_device(image[None]).float().mean(1, keepdim=True) / 255
        src = torch.from_numpy(mask).to(DEVICE)[None, None]
        return torch_losses.guided_filter(guide, src, radius)[0, 0].cpu().numpy()

    return Work(run, run, device_name())


def cut(*, batch: int, grid: int, channels: int) -> Work:
    """N-cut loss and its gradient to the mask."""
    keys, mask = patch_inputs(batch, grid, channels)
    tokens = torch.from_numpy(keys).to(DEVICE).flatten(1, 2)
    leaf = torch.from_numpy(mask).to(DEVICE).movedim(-1, 1).requires_grad_()

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        value = torch_losses.normalized_cut(tokens, leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        wait()
        return value.detach(), gradient

    def result() -> np.ndarray:
        value, gradient = (tensor.cpu().numpy() for tensor in run())
        return np.append(gradient.ravel() * gradient.size, value)

    return Work(run, result, device_name())
