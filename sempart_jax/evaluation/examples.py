"""The images that went best and worst, with their masks, to look at."""

import numpy as np

from sempart_jax.evaluation.masks import Failure, MaskSource
from sempart_jax.evaluation.protocols import Protocol
from sempart_jax.evaluation.results import CENTRE_BOX, Example, Examples, SaliencySection
from sempart_jax.evaluation.saliency import SaliencyTally
from sempart_jax.evaluation.scoring import ScoredSet
from sempart_jax.postprocessing import postprocess


def find_examples(
    section: SaliencySection,
    scored_set: ScoredSet[SaliencyTally],
    source: MaskSource,
    protocol: Protocol,
    count: int = 12,
) -> Examples:
    """Predict the best and the worst images of a section again (two tricks, Fig. 9 to 11).

    Args:
        section: scores of all images.
        scored_set: the images.
        source: where their masks come from.
        protocol: the one of the section.
        count: images of each kind; fewer where the section has not twice as many.

    Returns:
        Examples by the IoU of the first post-processing; an image whose IoU is not defined is none.
    """
    postprocessings = [name for name in section.scores if name != CENTRE_BOX]
    chosen_by = postprocessings[0]
    ious = section.scores[chosen_by].iou_per_image
    # Stable, so that of equal images the same ones are chosen each time.
    order = [int(i) for i in np.argsort(-ious, kind="stable") if not np.isnan(ious[i])]
    best = order[: min(count, (len(order) + 1) // 2)]
    worst = order[len(best) :][::-1][:count]
    place = {name: index for index, name in enumerate(scored_set.names)}
    found = {}
    read = [scored_set.read(place[section.names[i]]) for i in (*best, *worst)]
    masks = source([framed for framed, _ in read], protocol)
    for i, (framed, truth), mask in zip((*best, *worst), read, masks, strict=True):
        if isinstance(mask, Failure):
            continue
        chosen = 1 - mask if section.inverted[i] else mask
        found[i] = Example(
            name=section.names[i],
            object_size=float(section.object_sizes[i]),
            pictures={
                "image": framed.image,
                "ground truth": truth.astype(np.float32),
                **{name: postprocess(name, framed.image, chosen) for name in postprocessings},
            },
            iou={name: float(section.scores[name].iou_per_image[i]) for name in postprocessings},
        )
    return Examples(
        section.dataset,
        section.protocol,
        chosen_by,
        best=tuple(found[i] for i in best if i in found),
        worst=tuple(found[i] for i in worst if i in found),
    )
