"""Training, evaluation and segmentation of a folder of hostile files: in memory, and by name."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.images import read_image
from sempart_jax.host.shown_names import printable
from tests.commands import SMALL
from tests.faults.damaged_images import encode, scene
from tests.faults.hostile_files import ORDINARY, write_hostile, write_ordinary
from tests.faults.peak_memory import needs_linux, run_measured

pytestmark = [needs_linux, pytest.mark.slow]

MORE_MEGABYTES = 1000
"""What hostile files may cost beyond ordinary ones. One of them is a good image of 3,000 x 3,000
pixels; a strip of 20,000 x 1 took 6.7 GB where it was resized whole."""

long_form = pytest.mark.skipif("HOSTILE_LONG" not in os.environ, reason="see `make hostile`")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders ``ordinary`` and ``hostile`` as ECSSD has them."""
    root = tmp_path_factory.mktemp("hostile")
    write_ordinary(root / "ordinary/ECSSD/images")
    return root


@pytest.fixture(scope="module")
def plain_training(root):
    """A run over ordinary files."""
    plain = train(root / "run", root / "ordinary/ECSSD/images", steps=4)
    assert plain.returncode == 0, plain.output
    return plain


@pytest.fixture(scope="module")
def hostile(root):
    return write_hostile(root / "hostile/ECSSD/images")


def train(root, images, **fields):
    fields = SMALL | {"data.train": images, "data.workers": 1} | fields
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    return run_measured("train", "--config=configs/baseline.py", f"--workdir={root}", *flags)


def assert_named_once(output, before, names, folder):
    """Assert that lines of ``before`` name these files, each once, and no others."""
    lines = [line for line in output.splitlines() if before in line]
    told = [line.split(before, 1)[1] for line in lines]
    for name in names:
        path = printable(folder / name)
        assert sum(line.startswith(f"{path}: ") for line in told) == 1, (name, output)
    assert len(told) == len(names), told
    assert "Traceback" not in output


def assert_bounded(plain, hostile, what):
    print(f"{what}: peak {plain.peak_megabytes:.0f} MB, hostile {hostile.peak_megabytes:.0f} MB")
    assert hostile.peak_megabytes < plain.peak_megabytes + MORE_MEGABYTES


def test_a_training_names_bad_files_once_and_goes_on(root, hostile, plain_training, tmp_path):
    images = root / "hostile/ECSSD/images"
    count = ORDINARY + len(hostile.good | hostile.strips | hostile.bad)
    # Two epochs: what was named in the first is not named in the second.
    steps = 2 * count // SMALL["batch_size"]
    trained = train(tmp_path / "run", images, steps=steps)
    assert trained.returncode == 0, trained.output
    assert_named_once(trained.output, "skipped ", hostile.bad | hostile.strips, images)
    assert (tmp_path / "run/checkpoints" / str(steps)).is_dir()
    assert_bounded(plain_training, trained, "training")


def segment(root, folder, out):
    return run_measured("segment", folder, "--workdir", root / "run", "--out", out)


@pytest.mark.usefixtures("plain_training")
def test_a_segmentation_does_the_good_and_names_the_bad(root, hostile, tmp_path):
    images = root / "hostile/ECSSD/images"
    plain = segment(root, root / "ordinary/ECSSD/images", tmp_path / "plain")
    assert plain.returncode == 0, plain.output
    segmented = segment(root, images, tmp_path / "out")
    # Images that cannot be read are listed, then exit status is 1.
    assert segmented.returncode == 1
    assert_named_once(segmented.output, "failed: ", hostile.bad, images)
    lines = (tmp_path / "out/masks.jsonl").read_text().splitlines()
    done = {Path(record["image"]): record for record in map(json.loads, lines)}
    assert {path.name for path in done} == hostile.good | hostile.strips
    for path, record in done.items():
        for kind in ("mask", "overlay", "cutout"):
            written = (tmp_path / "out" / record[kind]).resolve()
            assert written.is_relative_to(tmp_path / "out")
            with Image.open(written) as picture:
                assert picture.size == (record["width"], record["height"]), path
    assert not (Path.cwd() / "injected").exists()
    print(f"{len(done)} images segmented, {len(hostile.bad)} named")
    assert_bounded(plain, segmented, "segmentation")


def write_masks(root, images, unreadable):
    """Give each image a mask of its size; where it cannot be read, one of any size."""
    masks = root / "ECSSD/ground_truth_mask"
    masks.mkdir(parents=True)
    for path in images.iterdir():
        if path.suffix.lower() not in (".png", ".jpg", ".webp"):
            continue
        readable = path.name not in unreadable and not path.is_dir()
        height, width = read_image(path).shape[:2] if readable else (8, 8)
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 :, width // 4 :] = 255
        Image.fromarray(mask).save(masks / f"{path.stem}.png")


def evaluate(root, data_root, protocol, report):
    return run_measured(
        "evaluate",
        *("--workdir", root / "run", "--data_root", data_root, "--datasets=ecssd"),
        *("--protocols", protocol, "--report", report),
    )


@pytest.mark.usefixtures("plain_training")
@pytest.mark.parametrize("protocol", ["crop320", pytest.param("native", marks=long_form)])
def test_an_evaluation_scores_the_good_and_names_the_bad(root, hostile, tmp_path, protocol):
    images = root / "hostile/ECSSD/images"
    for folder in ("ordinary", "hostile"):
        if not (root / folder / "ECSSD/ground_truth_mask").exists():
            write_masks(root / folder, root / folder / "ECSSD/images", hostile.bad)
    masks = root / "hostile/ECSSD/ground_truth_mask"
    bad_masks = {"photo_00.png": b"", "photo_01.png": encode(scene())[:500]}
    for name, content in bad_masks.items():
        (masks / name).write_bytes(content)
    (masks / "photo_02.png").unlink(missing_ok=True)
    os.mkfifo(masks / "photo_02.png")
    count = len(hostile.good | hostile.strips | hostile.bad)
    plain = evaluate(root, root / "ordinary", protocol, tmp_path / "plain")
    assert plain.returncode == 0, plain.output
    scored = evaluate(root, root / "hostile", protocol, tmp_path / "report")
    assert scored.returncode == 0, scored.output
    without_mask = {*bad_masks, "photo_02.png"}
    long = {Path(name).stem for name in hostile.strips} if protocol == "crop320" else set()
    paths = {images / name for name in hostile.bad} | {masks / name for name in without_mask}
    left_out = {*map(str, paths), *long}
    # In the log, one after another; and in the report.
    log = "\n".join(line for line in scored.output.splitlines() if "] left out: " in line)
    assert_named_once(log, "] left out: cannot read the image ", left_out, Path())
    results = json.loads((tmp_path / "report/results.json").read_text())
    assert len(results["left_out"]) == len(left_out)
    row = next(row for row in results["saliency"] if row["postprocessing"] == "guided")
    whole = set() if protocol == "crop320" else hostile.strips
    assert row["images"] == len(hostile.good | whole) - len(without_mask)
    assert "Traceback" not in scored.output
    print(f"{row['images']} of {count} images scored, {len(left_out)} named")
    assert_bounded(plain, scored, f"evaluation, {protocol}")
