r"""Turn published PyTorch weights into one model file.

    python scripts/port_weights.py --head segmenter.pth --backbone_weights dino.pth \
        --out model.safetensors

The head released with *Two Tricks*, a backbone of the DINO family, or both. A file with a head
loads by ``sempart_jax.load_segmenter("model.safetensors")``; one with a backbone serves a training
as ``--config.backbone.weights=model.safetensors``. PyTorch files need ``pip install
'sempart_jax[torch]'``; ``.npz`` and ``.safetensors`` do not.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sempart_jax.host.command_line import expand_home
from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks.model_format import BACKBONE, DTYPES, HEAD, Description, write_tensors
from sempart_jax.networks.names import ANY_VIT, BACKBONES


def port(
    head: Path | None,
    backbone_weights: Path | None,
    backbone: str | None,
    out: Path,
    *,
    short_side: int,
    dtype: str,
) -> None:
    """Read, check, tell what was found, and write.

    Raises:
        FileNotFoundError: if a file is not there.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if a file is damaged or of another kind, both do not belong together, or the
            backbone has to be told.
    """
    # Not above: what is mistyped is told before JAX is imported.
    from sempart_jax.networks.released import (
        describe_vit,
        head_shape,
        is_of,
        read_released_head,
        read_released_vit,
    )

    tensors: dict[str, Any] = {}
    shapes: list[tuple[int, int]] = []
    module = None
    if backbone_weights is not None:
        known = None if backbone in (None, ANY_VIT) else BACKBONES[backbone]
        module, params = read_released_vit(backbone_weights, known and known.num_heads)
        if known is not None and not is_of(module, known):
            raise ValueError(
                f"{backbone} has {describe_vit(known)}, but the weights have "
                f"{describe_vit(module)}: name another file or another backbone"
            )
        shapes.append((module.patch_size, module.width))
        tensors |= flatten(params, BACKBONE)
        print(f"backbone {backbone_weights}")
        print(f"  vision transformer of {describe_vit(module)}")
        print(f"  {_count(params)}")
    if head is not None:
        variables = read_released_head(head)
        shapes.append(head_shape(variables))
        tensors |= flatten(variables, HEAD)
        patch_size, width = head_shape(variables)
        print(f"head {head}")
        print(f"  Sempart head: patch {patch_size}, keys of {width} channels")
        print(
            f"  {_count(variables['params'])}, and {_count(variables['batch_stats'])} of batch norm"
        )
    if len(set(shapes)) > 1:
        (patch_size, width), (head_patch_size, head_width) = shapes
        raise ValueError(
            f"the head is for patches of {head_patch_size} pixels and keys of {head_width} "
            f"channels, but the backbone has {patch_size} and {width}: they do not belong together"
        )
    if backbone is None:
        backbone = _infer_name(shapes[0], module)
    elif backbone != ANY_VIT:
        expected = (BACKBONES[backbone].patch_size, BACKBONES[backbone].width)
        if expected != shapes[0]:
            raise ValueError(
                f"{backbone} has patch size and width {expected}, but the weights have "
                f"{shapes[0]}: name another file or another backbone"
            )
    sources = [str(path.name) for path in (head, backbone_weights) if path is not None]
    description = Description(
        backbone=backbone,
        patch_size=shapes[0][0],
        origin=f"ported from {' and '.join(sources)}",
        short_side=short_side,
    )
    write_tensors(out, description, tensors, dtype)
    parts = "head and backbone" if len(shapes) == 2 else "head" if head else "backbone"
    print(f"wrote {out}")
    print(f"  {parts} of {backbone}, {dtype}, {out.stat().st_size / 1e6:.1f} MB")


def _infer_name(shape: tuple[int, int], module: Any) -> str:
    from sempart_jax.networks.released import infer_backbone

    try:
        return infer_backbone(*shape, module)
    except ValueError as error:
        raise ValueError(f"{error} (--backbone)") from error


def _count(tree: Mapping[str, Any]) -> str:
    leaves = flatten(tree, "").values()
    return f"{len(leaves)} tensors, {sum(leaf.size for leaf in leaves):,} numbers"


def main() -> None:
    """Port what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--head", type=Path, metavar="FILE", help="released segmenter")
    parser.add_argument(
        "--backbone_weights", type=Path, metavar="FILE", help="weights of a vision transformer"
    )
    parser.add_argument(
        "--backbone",
        choices=[*BACKBONES, ANY_VIT],
        metavar="NAME",
        help=f"{', '.join(BACKBONES)}; needed where tensors do not tell: DINO and iBOT ViT-S/16",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the stored matrices")
    parser.add_argument(
        "--short_side",
        type=int,
        default=320,
        metavar="PIXELS",
        help="at which the head was trained to see images",
    )
    arguments = parser.parse_args(expand_home())
    if arguments.head is None and arguments.backbone_weights is None:
        sys.exit("error: nothing to port: name --head, --backbone_weights, or both")
    try:
        port(**vars(arguments))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit("error: " + " ".join(str(error).split()))


if __name__ == "__main__":
    main()
