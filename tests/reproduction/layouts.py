"""Data sets in the layout of their authors, a few images each."""

from PIL import Image

from sempart_jax.data.synthetic import write_scenes

FOLDERS = {
    "ECSSD": ("images", "ground_truth_mask"),
    "DUTS/DUTS-TE": ("DUTS-TE-Image", "DUTS-TE-Mask"),
    "DUTS/DUTS-TR": ("DUTS-TR-Image", "DUTS-TR-Mask"),
}


def lay_out(root, names=tuple(FOLDERS), count=2):
    """Write scenes as data sets of masks."""
    for name in names:
        images, masks = FOLDERS[name]
        write_scenes(root / name, count, size=48, seed=0)
        (root / name / "images").rename(root / name / images)
        (root / name / "masks").rename(root / name / masks)
    return root


def write_voc07(root, images):
    """Lay three images out as VOC2007, each with one object that a box of its own encloses.

    ``images`` are files to take as the first of them; the others are not on the disk.
    """
    folder, boxes = root / "VOCdevkit" / "VOC2007", {}
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for index in range(3):
        image_id, box = f"{index:06d}", (5, 6, 30 + index, 40)
        boxes[image_id] = box
        fields = zip(("xmin", "ymin", "xmax", "ymax"), (6, 7, *box[2:]), strict=True)
        bounds = "".join(f"<{field}>{value}</{field}>" for field, value in fields)
        (folder / "Annotations" / f"{image_id}.xml").write_text(
            f"<annotation><object><bndbox>{bounds}</bndbox></object></annotation>"
        )
    for image_id, path in zip(boxes, images, strict=False):
        with Image.open(path) as image:
            image.save(folder / "JPEGImages" / f"{image_id}.jpg")
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(boxes))
    return boxes
