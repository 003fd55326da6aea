"""What a network makes of a few training images, laid out as the columns of a panel."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from sempart_jax.predict.network_step import NetworkStep
from sempart_jax.two_tricks.interfaces import Variables
from sempart_jax.two_tricks.multiscale import crop_and_zoom


def panel_columns(
    step: NetworkStep,
    replicated_variables: Variables,
    images: UInt8[np.ndarray, "B H W 3"],
    *,
    pseudo_masks: UInt8[np.ndarray, "B H W"] | None = None,
    crop_size: tuple[int, int] | None,
    filtered_teacher: bool,
) -> dict[str, np.ndarray]:
    """Predict the columns of a training panel; the teacher zooms into the middle of each image."""
    # As floats, which the zoomed ones are: both go through one compiled program.
    image = images.astype(np.float32) / 255
    masks = step.start(replicated_variables, image, len(image))()
    columns = {"image": image}
    if pseudo_masks is not None:
        columns["pseudo-mask"] = pseudo_masks[..., None].astype(np.float32) / 255
    columns |= {
        "coarse": masks["coarse"][..., None],
        "fine": masks["fine"][..., None],
        "fine, guided filter": masks["refined"][..., None],
    }
    if crop_size is not None:
        corner = [(image.shape[1] - crop_size[0]) // 2, (image.shape[2] - crop_size[1]) // 2]
        corners = jnp.broadcast_to(jnp.asarray(corner, jnp.int32), (len(image), 2))
        zoomed = np.asarray(crop_and_zoom(jnp.asarray(image), corners, *crop_size))
        teacher = step.start(replicated_variables, zoomed, len(zoomed))()
        columns["crop, zoomed"] = zoomed
        columns["teacher target"] = teacher["refined" if filtered_teacher else "fine"][..., None]
    return columns
