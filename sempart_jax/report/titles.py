"""Readable names of the keys that evaluations and published tables use."""

from sempart_jax.evaluation.results import CENTRE_BOX

_POSTPROCESSINGS = {
    "none": "as predicted",
    "guided": "guided filter",
    "bilateral": "bilateral solver (24, 4, 4)",
    "bilateral_16_16_8": "bilateral solver (16, 16, 8)",
    "bilateral_unstated": "bilateral solver",
    CENTRE_BOX: "centre box",
}
_DATASETS = {
    "dut_omron": "DUT-OMRON",
    "duts_te": "DUTS-TE",
    "ecssd": "ECSSD",
    "voc07": "VOC07",
    "voc12": "VOC12",
    "coco20k": "COCO20k",
}
_PROTOCOLS = {
    "crop320": "centre crop of 320 × 320 pixels",
    "native": "whole images at their own size",
    "boxes": "boxes as given",
}
_FOREGROUND_RULES = {
    "batch": "masks of a batch are inverted where their common mean is above one half (batch)",
    "image": "a mask is inverted where its mean is above one half (image)",
    "none": "masks are taken as they are (none)",
}
_METRICS = {
    "accuracy": "Acc",
    "iou": "IoU",
    "max_f_beta": "max F",
    "mae": "MAE",
    "corloc": "CorLoc",
    "weighted_f": "weighted F",
    "s_measure": "S-measure",
    "max_e_measure": "max E-measure",
    "mean_e_measure": "mean E-measure",
}


def postprocessing_title(key: str) -> str:
    """Name a post-processing; an unknown key stands for itself."""
    return _POSTPROCESSINGS.get(key, key)


def dataset_title(key: str) -> str:
    """Name a data set as papers do; an unknown key stands for itself."""
    return _DATASETS.get(key, key)


def protocol_title(key: str) -> str:
    """Say in a few words what a protocol scores, its key included."""
    return f"{_PROTOCOLS[key]} ({key})" if key in _PROTOCOLS else key


def foreground_title(key: str) -> str:
    """Say what decided which side of a mask is foreground; an unknown key stands for itself."""
    return _FOREGROUND_RULES.get(key, key)


def metric_title(key: str) -> str:
    """Head a column; an unknown key stands for itself."""
    return _METRICS.get(key, key.replace("_", " "))


def image_count(images: int, published_images: int | None) -> str:
    """Say how many images were scored, and of how many where it is not the whole data set."""
    if published_images is None or images == published_images:
        return f"{images:,} image{'s' * (images != 1)}"
    return f"{images:,} of {published_images:,} images"


def printable(text: str) -> str:
    r"""Write bytes of a file name that are no UTF-8 as ``\udcXX``: any text can be encoded then."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
