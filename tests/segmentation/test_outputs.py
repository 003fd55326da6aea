"""The output folder: settings, and pictures that are whole or absent."""

import json

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.folder import PRODUCT_MARKER
from sempart_jax.segmentation.outputs import (
    OutputFolder,
    check_settings,
    claim_folder,
    digest_of,
    parse_objects,
)

SETTINGS = {"refine": "guided", "threshold": 0.5, "outputs": ["mask", "overlay"]}
PICTURE = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": []}, "--outputs are some of mask, overlay, cutout"),
        ({"outputs": ["mask", "mask"]}, "each once, got 'mask,mask'"),
        ({"outputs": ["box"]}, "got 'box'"),
        ({"mask": "grey"}, "unknown mask 'grey': choose one of binary, soft"),
        ({"threshold": 1.0}, r"--threshold lies in \[0, 1\), got 1.0"),
        ({"threshold": float("nan")}, "got nan"),
        ({"objects": 0}, "--objects is a number from 1 to 254, got 0"),
        ({"objects": 255}, "got 255"),
        ({"objects": 2, "mask": "soft"}, "--mask=soft is for one foreground"),
        ({"objects": 2, "largest_component": True}, "--largest_component is for one foreground"),
        ({"least_confidence": 1.5}, r"--least_confidence lies in \[0, 1\], got 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_settings(**{"outputs": ["mask"], "mask": "binary", "threshold": 0.5, **options})


def test_numbers_of_objects():
    assert [parse_objects(text) for text in ("1", "254", "all")] == [1, 254, 254]
    for text in ("", "-1", "few", "1.5"):
        with pytest.raises(ValueError, match="--objects is a number from 1 to 254, or all"):
            parse_objects(text)


def test_other_settings_are_named_and_refused(tmp_path):
    claim_folder(tmp_path / "deep/out", SETTINGS, overwrite=False)
    assert json.loads((tmp_path / "deep/out" / PRODUCT_MARKER).read_text()) == SETTINGS
    settings = SETTINGS
    for name, value, message in (
        ("refine", "none", "refine = guided, now it is none"),
        ("threshold", 0.7, "threshold = 0.5, now it is 0.7"),
        ("outputs", ["mask"], "outputs = mask,overlay, now it is mask: .*--overwrite"),
    ):
        claim_folder(tmp_path / "deep/out", settings, overwrite=False)
        changed = {**settings, name: value}
        with pytest.raises(ValueError, match=message):
            claim_folder(tmp_path / "deep/out", changed, overwrite=False)
        assert digest_of(changed) != digest_of(settings)
        claim_folder(tmp_path / "deep/out", changed, overwrite=True)
        settings = changed


def test_files_of_others_are_not_touched_and_damaged_settings_told(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/drawn.png").touch()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="masks is there already, and was not written by this"):
            claim_folder(tmp_path, SETTINGS, overwrite=overwrite)
    (tmp_path / "masks/drawn.png").unlink()
    claim_folder(tmp_path, SETTINGS, overwrite=False)
    for damaged in ("{", "[]"):
        (tmp_path / PRODUCT_MARKER).write_text(damaged)
        with pytest.raises(ValueError, match=r"segmentation.json is damaged"):
            claim_folder(tmp_path, SETTINGS, overwrite=False)
    claim_folder(tmp_path, SETTINGS, overwrite=True)


def test_pictures_are_written_by_kind(tmp_path):
    for left in (".partial-0-of-2-abc", ".partial-1-of-2-abc"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "0").touch()
    with OutputFolder(tmp_path, "0-of-2") as outputs:
        assert outputs.save("mask", "sub/a.b", PICTURE) == "masks/sub/a.b.png"
        assert outputs.save("overlay", "a", PICTURE) == "overlays/a.jpg"
        assert outputs.save("cutout", "a", PICTURE) == "cutouts/a.png"
        # What is there is replaced, and JPEG does not hold the longest images.
        outputs.save("cutout", "a", PICTURE.transpose(Image.Transpose.ROTATE_90))
        assert outputs.save("overlay", "a", Image.new("RGB", (65_501, 1))) == "overlays/a.png"
    with Image.open(tmp_path / "masks/sub/a.b.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(PICTURE))
    with Image.open(tmp_path / "cutouts/a.png") as replaced:
        assert replaced.size == (3, 4)
    # What a killed process of the same shard has left is gone, too.
    left = [".partial-1-of-2-abc", "cutouts", "masks", "overlays"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_nothing_is_written_outside(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "masks").mkdir(parents=True)
    elsewhere.mkdir()
    (out / "overlays").symlink_to(elsewhere)
    (elsewhere / "kept.png").write_text("kept")
    (out / "masks/a.png").symlink_to(elsewhere / "kept.png")
    with OutputFolder(out, "0-of-1") as outputs:
        for kind, name in (("overlay", "a"), ("overlay", "new/a"), ("mask", "../../a")):
            with pytest.raises(PermissionError, match="is outside of"):
                outputs.save(kind, name, PICTURE)
        # A link to a file is replaced itself.
        outputs.save("mask", "a", PICTURE)
    assert [path.name for path in elsewhere.iterdir()] == ["kept.png"]
    assert (elsewhere / "kept.png").read_text() == "kept"
    assert not (out / "masks/a.png").is_symlink()


def test_what_fails_leaves_nothing_half(tmp_path):
    class Broken(Image.Image):
        size = (1, 1)

        def save(self, path, **options):
            del options
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with OutputFolder(tmp_path, "0-of-1") as outputs:
        outputs.save("mask", "a", PICTURE)
        whole = (tmp_path / "masks/a.png").read_bytes()
        with pytest.raises(OSError, match="No space left"):
            outputs.save("mask", "a", Broken())
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [tmp_path / "masks/a.png"]
    assert (tmp_path / "masks/a.png").read_bytes() == whole
