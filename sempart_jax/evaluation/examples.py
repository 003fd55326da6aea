"""The images that went best and worst, with their masks, to look at."""

import numpy as np

from sempart_jax.data.image_sizes import shrink
from sempart_jax.data.labelled import LabelledSet
from sempart_jax.evaluation.origin import Failure, Origin
from sempart_jax.evaluation.results import CENTRE_BOX, Example, Examples, SaliencySection
from sempart_jax.evaluation.scoring import HELD_PIXELS
from sempart_jax.evaluation.sections import labelled_images
from sempart_jax.host.pixel_budget import within_pixels
from sempart_jax.metrics.protocols import Protocol
from sempart_jax.predict.postprocessing import postprocess

LONGEST_SIDE = 1024
"""Most pixels of a side of an example's pictures, which are all kept until they are shown."""


def find_examples(
    section: SaliencySection,
    labelled: LabelledSet,
    origin: Origin,
    protocol: Protocol,
    count: int = 12,
) -> Examples:
    """Predict the best and the worst images of a section again (two tricks, Fig. 9 to 11).

    By the IoU of the first post-processing, ``count`` of each kind, or fewer where the section has
    not twice as many. An image whose IoU is not defined is none.
    """
    postprocessings = [name for name in section.scores if name != CENTRE_BOX]
    chosen_by = postprocessings[0]
    ious = section.scores[chosen_by].iou_per_image
    # Stable, so that of equal images the same ones are chosen each time.
    order = [int(i) for i in np.argsort(-ious, kind="stable") if not np.isnan(ious[i])]
    best = order[: min(count, (len(order) + 1) // 2)]
    worst = order[len(best) :][::-1][:count]
    images = labelled_images(labelled, protocol)
    place = {name: index for index, name in enumerate(images.names)}
    places = {i: place[section.names[i]] for i in (*best, *worst)}
    found = {}
    for run in within_pixels(list(places), lambda i: images.pixels(places[i]), HELD_PIXELS):
        read = [images.read(places[i]) for i in run]
        masks = origin.source([framed for framed, _ in read], protocol)
        for i, (framed, truth), mask in zip(run, read, masks, strict=True):
            if isinstance(mask, Failure):
                continue
            chosen = 1 - mask if section.inverted[i] else mask
            found[i] = Example(
                name=section.names[i],
                object_size=float(section.object_sizes[i]),
                pictures={
                    name: shrink(picture, LONGEST_SIDE)
                    for name, picture in {
                        "image": framed.image,
                        "ground truth": truth.astype(np.float32),
                        **{
                            name: postprocess(name, framed.image, chosen)
                            for name in postprocessings
                        },
                    }.items()
                },
                iou={
                    name: float(section.scores[name].iou_per_image[i]) for name in postprocessings
                },
            )
    return Examples(
        section.dataset,
        section.protocol,
        chosen_by,
        best=tuple(found[i] for i in best if i in found),
        worst=tuple(found[i] for i in worst if i in found),
    )
