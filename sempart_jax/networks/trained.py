"""A network with its parameters, and all that its masks follow from."""

import dataclasses
from typing import Any

from sempart_jax.two_tricks.interfaces import MaskNetwork, Variables


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network that is ready to predict.

    Attributes:
        modules: the network without its parameters.
        frozen_params: parameters of the frozen backbone, on the host; none where it was trained.
        variables: ``{"params", "batch_stats"}`` of what was trained, on the host.
        short_side: short side in pixels at which it was trained to see images.
        backbone: name of the backbone.
        dtype: type of the backbone's matrix products.
        origin: where it comes from, in a few words.
        head_dtype: type of the products in the head of the network ``sempart``.
        foreground_chosen: whether training has told it which side is foreground; the N-cut alone
            does not, and the masks of some images may then have to be inverted.
    """

    modules: MaskNetwork
    frozen_params: Any
    variables: Variables
    short_side: int
    backbone: str
    dtype: str
    origin: str
    head_dtype: str = "float32"
    foreground_chosen: bool = False

    @property
    def patch_size(self) -> int:
        """Side of the backbone's patches in pixels."""
        return self.modules.patch_size

    @property
    def computation(self) -> str:
        """The types of its matrix products, in words: that of the backbone, and of the head."""
        # One word where the head is in float32: what is kept of older evaluations goes by it.
        if self.head_dtype == "float32":
            return self.dtype
        return f"{self.dtype}, head in {self.head_dtype}"
