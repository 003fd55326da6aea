"""What may be asked of a segmenter: told before JAX is imported, or anything loaded."""

import os

from sempart_jax.networks.names import BACKBONES, HANDCRAFTED, check_backbone
from sempart_jax.predict.postprocessing import POSTPROCESSINGS

INVERSIONS = ("auto", "never", "always")
"""Which masks are inverted, see ``predict.pictures.choose_side``."""

METHOD_SHORT_SIDE = 320
"""Short side in pixels at which a method's backbone sees an image, where no other is asked for."""

METHOD_BACKBONE = "dino_vits8"
"""Backbone of a method, where no other is asked for."""

PRIORS_SHORT_SIDE = 128
"""Short side in pixels at which saliency priors see an image, where no other is asked for."""


def check_options(refine: str, invert: str, **sizes: int | None) -> None:
    """Check what a caller asks for, before anything is loaded or compiled.

    Args:
        refine: name of a post-processing.
        invert: see ``predict.pictures.choose_side``.
        **sizes: what must be at least 1 where it is given.

    Raises:
        ValueError: if a name is unknown, or a size not positive.
    """
    if refine not in POSTPROCESSINGS:
        raise ValueError(f"unknown refine {refine!r}: choose one of {', '.join(POSTPROCESSINGS)}")
    if invert not in INVERSIONS:
        raise ValueError(f"unknown invert {invert!r}: choose one of {', '.join(INVERSIONS)}")
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def check_method(
    method: str,
    backbone: str | None = None,
    decoder: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    features: str | None = None,
) -> None:
    """Refuse a method that there is not, or that does not go with what is given for it.

    Args:
        method: name among ``baselines.by_name.METHOD_NAMES``.
        backbone: name of the backbone; :data:`METHOD_BACKBONE` if None.
        decoder: FOUND's decoder.
        weights: file of the backbone's weights.
        features: which of the backbone's features the method looks at.

    Raises:
        ValueError: as said.
    """
    # Not above: an exported network has its options checked without any method.
    from sempart_jax.baselines.by_name import METHOD_NAMES, PRIORS, is_found

    if method not in METHOD_NAMES:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHOD_NAMES)}")
    if method == PRIORS:
        parts = {"backbone": backbone, "weights": weights, "features": features}
        for name, value in parts.items():
            if value:
                raise ValueError(f"{method} has no backbone: leave {name} out")
    if decoder is not None and not is_found(method):
        raise ValueError(f"{method} has no decoder: leave it out")
    backbone = METHOD_BACKBONE if backbone is None else backbone
    check_backbone(backbone)
    if is_found(method) and backbone == HANDCRAFTED:
        raise ValueError(
            f"{method} looks for the patch that the class token attends to least, and the backbone "
            f"{backbone} has no class token: choose one of {', '.join(BACKBONES)}"
        )
