"""The baselines by name: from a backbone's features to masks on patches.

Each imports what it computes with when it is called: command lines ask for the names alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

COLOR_WEIGHT = 10.0
"""Weight of colour in Deep Spectral Methods, as its authors set it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """What a baseline sees of a batch of images.

    Attributes:
        keys: keys of the backbone's last block ``[B, h, w, D]``.
        image: the images at the size of the grid, RGB ``[B, h, w, 3]`` in [0, 1].
        class_attention: the class token's attention in the last block ``[B, heads, 1 + h * w]``;
            ``None`` where the backbone has no class token.
        decoder: kernel ``[D]`` and bias of FOUND's decoder; ``None`` without one.
    """

    keys: Float[np.ndarray, "B h w D"]
    image: Float[np.ndarray, "B h w 3"]
    class_attention: Float[np.ndarray, "B heads N1"] | None = None
    decoder: tuple[np.ndarray, float] | None = None


Method = Callable[[Features], Bool[np.ndarray, "B h w"] | Int[np.ndarray, "B h w"]]
"""Gives foreground, or objects that are numbered from 1."""


def _tokencut(features: Features) -> np.ndarray:
    from sempart_jax.baselines.tokencut import tokencut

    return tokencut(features.keys)["mask"]


def _maskcut(features: Features) -> np.ndarray:
    from sempart_jax.baselines.maskcut import maskcut

    return maskcut(features.keys)["objects"]


def _lost(features: Features) -> np.ndarray:
    from sempart_jax.baselines.lost import lost

    return lost(features.keys)["mask"]


def _deep_spectral(features: Features) -> np.ndarray:
    from sempart_jax.baselines.deep_spectral import deep_spectral

    return deep_spectral(features.keys, features.image, COLOR_WEIGHT)["mask"]


def _found_multi(features: Features) -> np.ndarray:
    from sempart_jax.baselines.found import background_mask, decoder_logits

    if features.decoder is not None:
        return decoder_logits(features.keys, *features.decoder) > 0
    if features.class_attention is None:
        raise ValueError(
            "FOUND looks for the patch that the class token attends to least, and this backbone "
            "has no class token: take a vision transformer"
        )
    return ~np.asarray(background_mask(features.keys, features.class_attention))


def _found_single(features: Features) -> np.ndarray:
    from sempart_jax.baselines.components import largest_component

    return np.stack([largest_component(mask) for mask in _found_multi(features)])


MASKCUT = "maskcut"
"""The method whose masks hold the numbers of objects."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "tokencut": _tokencut,
        MASKCUT: _maskcut,
        "lost": _lost,
        "deep_spectral": _deep_spectral,
        "found_multi": _found_multi,
        "found_single": _found_single,
    }
)
"""TokenCut (arXiv 2202.11539), MaskCut (arXiv 2301.11320), LOST (arXiv 2109.14279), Deep Spectral
Methods (arXiv 2205.07839) and FOUND (arXiv 2212.07834), each with its authors' settings.

All choose their foreground themselves. FOUND takes all of what is not background, or its largest
component; by its trained decoder where one is given, else as the decoder's training targets are
found, without their refinement."""


PRIORS = "priors"
"""Saliency priors, see ``baselines.saliency.priors``: they look at an image's pixels alone."""

METHOD_NAMES = (*METHODS, PRIORS)
"""All methods without training: those over a backbone, and the one that needs none."""


def is_found(method: str) -> bool:
    """Whether a method is FOUND's, which looks at the class token or has a decoder."""
    return method.startswith("found")
