"""Numbers of an evaluation that its tables and files share."""

import dataclasses

from sempart_jax.metrics.sod import ExtraScores

_IMAGES_FIELD = "images"


def extra_scores(extra: ExtraScores) -> dict[str, float]:
    """List the further scores of one post-processing by name, without the number of images."""
    return {
        field.name: float(getattr(extra, field.name))
        for field in dataclasses.fields(extra)
        if field.name != _IMAGES_FIELD
    }
