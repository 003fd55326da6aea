r"""Turn published PyTorch weights into one model file.

    python scripts/port_weights.py --head segmenter.pth --backbone_weights dino.pth \
        --out model.safetensors

The head released with *Two Tricks*, a backbone of DINO or iBOT, or both. A file with a head loads
by ``sempart_jax.load_segmenter("model.safetensors")``; one with a backbone serves a training as
``--config.backbone.weights=model.safetensors``. PyTorch files need ``pip install
'sempart_jax[torch]'``; ``.npz`` and ``.safetensors`` do not.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks.model_format import BACKBONE, DTYPES, HEAD, Description, write_tensors
from sempart_jax.networks.names import BACKBONES


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
        head_shape,
        read_released_head,
        read_released_vit,
        vit_shape,
    )

    tensors: dict[str, Any] = {}
    shapes: list[tuple[int, ...]] = []
    if backbone_weights is not None:
        params = read_released_vit(backbone_weights)
        shapes.append(vit_shape(params))
        tensors |= flatten(params, BACKBONE)
        patch_size, width, depth = vit_shape(params)
        print(f"backbone {backbone_weights}")
        print(f"  vision transformer: patch {patch_size}, width {width}, depth {depth}")
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
    if len({shape[:2] for shape in shapes}) > 1:
        (patch_size, width, _), (head_patch_size, head_width) = shapes
        raise ValueError(
            f"the head is for patches of {head_patch_size} pixels and keys of {head_width} "
            f"channels, but the backbone has {patch_size} and {width}: they do not belong together"
        )
    backbone = _backbone_name(shapes[0], backbone)
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


def _backbone_name(shape: tuple[int, ...], name: str | None) -> str:
    from sempart_jax.networks.released import infer_backbone

    if name is None:
        try:
            return infer_backbone(*shape)
        except ValueError as error:
            raise ValueError(f"{error} (--backbone)") from error
    known = BACKBONES[name]
    expected = (known.patch_size, known.width, known.depth)[: len(shape)]
    if expected != shape:
        raise ValueError(
            f"{name} has patch size, width and depth {expected}, but the weights have {shape}: "
            "name another file or another backbone"
        )
    return name


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
        "--backbone_weights", type=Path, metavar="FILE", help="checkpoint of DINO or iBOT"
    )
    parser.add_argument(
        "--backbone",
        choices=list(BACKBONES),
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
    arguments = parser.parse_args()
    if arguments.head is None and arguments.backbone_weights is None:
        sys.exit("error: nothing to port: name --head, --backbone_weights, or both")
    try:
        port(**vars(arguments))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit("error: " + " ".join(str(error).split()))


if __name__ == "__main__":
    main()
