"""What may be asked of a segmenter: told before JAX is imported, or anything loaded."""

import os
from typing import Any

from sempart_jax.networks.names import BACKBONES, FEATURES, HANDCRAFTED, check_backbone
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
    """Refuse unknown names, and ``sizes`` below 1 where they are given, by a ValueError.

    Before anything is loaded or compiled.
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
    """Refuse a method that there is not, or that does not go with what is given, by a ValueError.

    Arguments are those of ``load_method_segmenter``.
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


def define_network_flags(workdir: str) -> None:
    """Define the flags that say which network segments; ``workdir`` is the help of the first."""
    # Not above: an exported network runs without absl.
    from absl import flags

    from sempart_jax.host.command_line import define_gpu_flag

    # The help shows them among those of the program.
    flags.disclaim_key_flags()
    define_gpu_flag()
    flags.DEFINE_string("workdir", None, workdir)
    flags.DEFINE_string(
        "backbone",
        None,
        f"Backbone that a released head was trained on, or of a method (default: {METHOD_BACKBONE}"
        ").",
    )
    flags.DEFINE_string("weights", None, "Weight file of the backbone, if it has moved.")
    flags.DEFINE_integer(
        "resolution",
        None,
        "Short side in pixels at which an image is seen. Default: that of the network's training, "
        f"{METHOD_SHORT_SIDE} for methods, {PRIORS_SHORT_SIDE} for priors.",
        lower_bound=1,
    )


def define_method_flags() -> None:
    """Define the flags of methods without training, beside :func:`define_network_flags`."""
    from absl import flags

    from sempart_jax.baselines.by_name import METHOD_NAMES

    flags.disclaim_key_flags()
    flags.DEFINE_enum(
        "method",
        None,
        list(METHOD_NAMES),
        "Method without training, instead of --workdir: priors, or any other over --backbone.",
    )
    flags.DEFINE_enum(
        "features",
        None,
        list(FEATURES),
        "Features of the backbone that --method uses. Default: those that suit its family.",
    )
    flags.DEFINE_string("decoder", None, "Weight file or run of FOUND's decoder.")


def given_flags(*names: str) -> dict[str, Any]:
    """Return the values of flags, but for those that have none."""
    from absl import flags

    values = {name: flags.FLAGS[name].value for name in names}
    return {name: value for name, value in values.items() if value is not None}
