"""``scripts/reproduce_tables.py`` as a user runs it, on made-up data in the official layout."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from tests.commands import REPOSITORY, SMALL

pytestmark = pytest.mark.slow

SCENES = 5
TRAIN_ARGS = " ".join(f"--config.{name}={value}" for name, value in SMALL.items())


def make_ecssd(root, count=SCENES):
    write_scenes(root / "ECSSD", count, size=48, seed=0)
    (root / "ECSSD" / "masks").rename(root / "ECSSD" / "ground_truth_mask")


def command(root, *arguments, steps=1):
    train_args = f"{TRAIN_ARGS} --config.data.train={root}/ECSSD/images --config.steps={steps}"
    script = [sys.executable, "-W", "error::DeprecationWarning:sempart_jax"]
    script += ["scripts/reproduce_tables.py", "--data_root", root, "--out", root / "out"]
    return [*map(str, script), f"--train_args={train_args}", *map(str, arguments)]


def environment(root):
    return {**os.environ, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": str(root / "compiled")}


def reproduce(root, *arguments, **options):
    return subprocess.run(
        command(root, *arguments, **options),
        cwd=REPOSITORY,
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def started(finished):
    """Which commands were started, in their order."""
    python = re.escape(sys.executable)
    return re.findall(rf"^{python} -m sempart_jax\.(train|evaluate) ", finished.stdout, re.M)


def file_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_table_is_made_once_and_an_interrupted_one_goes_on(tmp_path):
    make_ecssd(tmp_path)
    out, arguments = tmp_path / "out", ["--tables", "1", "--datasets", "ecssd,dut_omron"]
    # A file in the place of the report's folder: the second evaluation cannot but fail.
    obstacle = out / "tricks" / "evaluation"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()

    failed = reproduce(tmp_path, *arguments)
    assert failed.returncode == 1
    assert started(failed) == ["train", "evaluate"] * 2
    assert re.search(
        r"^error: failed commands, 1 in all:\n  status 1 of .*/tricks/", failed.stderr, re.M
    )
    assert re.search(r"^# skipped: dut_omron: .*prepare_data\.py dut_omron", failed.stdout, re.M)
    table = json.loads((out / "tables.json").read_text())
    assert {row["origin"] for row in table["rows"]} == {None, "baseline"}
    assert len(table["failed"]) == 1
    trained = file_times(out / "tricks" / "checkpoints") | file_times(out / "baseline")
    assert trained

    obstacle.unlink()
    finished = reproduce(tmp_path, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert started(finished) == ["evaluate"]
    assert file_times(out / "tricks" / "checkpoints") | file_times(out / "baseline") == trained
    check_table_1(out, finished.stdout)

    before = file_times(out / "baseline") | file_times(out / "tricks")
    again = reproduce(tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert started(again) == []
    assert again.stdout.count("# finished before: ") == 4
    assert file_times(out / "baseline") | file_times(out / "tricks") == before
    check_table_1(out, again.stdout)

    changed = reproduce(tmp_path, *arguments, "--dry_run", steps=2)
    assert changed.returncode == 0, changed.stderr
    assert started(changed) == ["train", "evaluate"] * 2
    assert re.search(r"^# changed since .*steps=1' and is .*steps=2'", changed.stdout, re.M)
    assert file_times(out / "baseline") | file_times(out / "tricks") == before


def check_table_1(out, printed):
    """Ours is that of ``results.json``, and stands beside the right published number."""
    rows = json.loads((out / "tables.json").read_text())["rows"]
    published = {
        ("baseline", "none"): 0.853,
        ("baseline", "bilateral"): 0.849,
        ("tricks", "guided"): 0.862,
        ("tricks", "bilateral"): 0.830,
    }
    ours = [row for row in rows if row["origin"] and row["metric"] == "iou"]
    assert {(row["origin"], row["postprocessing"]): row["published"] for row in ours} == published
    assert len(ours) == len(published)
    for row in ours:
        results = json.loads((out / row["origin"] / "evaluation" / "results.json").read_text())
        (found,) = (
            scores
            for scores in results["saliency"]
            if scores["postprocessing"] == row["postprocessing"]
        )
        assert (found["dataset"], found["protocol"]) == ("ecssd", "crop320")
        assert row["ours"] == found["iou"]
        assert 0 < row["ours"] < 1
        assert row["images"] == SCENES
        assert row["difference"] == pytest.approx(row["ours"] - row["published"])
        numbers = f"{row['ours']:.3f} | {row['published']:.3f} | {row['difference']:+.3f}"
        assert re.search(rf"ECSSD \| 5 of 1,000 \| crop320 \| .*{re.escape(numbers)}", printed)
    assert printed.count("| DUT-OMRON | – |") == 15
    assert (out / "tables.md").read_text() in printed


def write_voc07(root):
    """Lay three images out as VOC2007, each with one object that a box of its own encloses."""
    folder, boxes = root / "VOCdevkit" / "VOC2007", {}
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for index in range(3):
        image_id, box = f"{index:06d}", (5, 6, 30 + index, 40)
        boxes[image_id] = box
        Image.new("RGB", (48, 48)).save(folder / "JPEGImages" / f"{image_id}.jpg")
        fields = zip(("xmin", "ymin", "xmax", "ymax"), (6, 7, *box[2:]), strict=True)
        bounds = "".join(f"<{field}>{value}</{field}>" for field, value in fields)
        (folder / "Annotations" / f"{image_id}.xml").write_text(
            f"<annotation><object><bndbox>{bounds}</bndbox></object></annotation>"
        )
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(boxes))
    return boxes


def test_saved_masks_and_boxes(tmp_path):
    make_ecssd(tmp_path)
    boxes = write_voc07(tmp_path)
    masks = tmp_path / "masks" / "tokencut"
    shutil.copytree(tmp_path / "ECSSD" / "ground_truth_mask", masks / "ecssd")
    boxes["000001"] = (0, 0, 2, 2)
    (tmp_path / "boxes" / "lost").mkdir(parents=True)
    (tmp_path / "boxes" / "lost" / "voc07.json").write_text(json.dumps(boxes))
    arguments = ["--tables", "2,5", "--datasets", "ecssd,voc07", "--notrain"]
    arguments += ["--predictions", tmp_path / "masks", "--boxes", tmp_path / "boxes"]

    finished = reproduce(tmp_path, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert started(finished) == ["evaluate", "evaluate"]
    assert "# not run: move: no saved masks" in finished.stdout
    assert "# not run: run tricks: it is not trained" in finished.stdout
    table = json.loads((tmp_path / "out" / "tables.json").read_text())
    ours = {
        (row["method"], row["postprocessing"], row["protocol"], row["metric"]): row
        for row in table["rows"]
        if row["ours"] is not None
    }
    lost = ours.pop(("LOST", "none", "boxes", "corloc"))
    assert lost["ours"] == pytest.approx(200 / 3)
    assert lost["difference"] == pytest.approx(200 / 3 - 61.9)
    assert len(ours) == 3 * 2 * 3
    for protocol in ("native", "crop320"):
        for metric in ("accuracy", "iou", "max_f_beta"):
            assert ours["TokenCut", "none", protocol, metric]["ours"] == 1
            for name in ("guided", "bilateral_16_16_8"):
                assert 0.5 < ours["TokenCut", name, protocol, metric]["ours"] < 1
    assert ours["TokenCut", "none", "native", "iou"]["difference"] == pytest.approx(1 - 0.712)

    # Another mask in the place of one: only what has changed is scored again.
    Image.new("L", (48, 48)).save(masks / "ecssd" / "scene_0000.png")
    again = reproduce(tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert started(again) == ["evaluate"]
    assert "# new or changed: ecssd" in again.stdout
    rows = json.loads((tmp_path / "out" / "tables.json").read_text())["rows"]
    (row,) = (
        row
        for row in rows
        if (row["method"], row["postprocessing"]) == ("TokenCut", "none")
        and (row["protocol"], row["metric"]) == ("native", "iou")
    )
    assert row["ours"] == pytest.approx(1 - 1 / SCENES)

    # A further data set: what was scored before stays in the report.
    for folder, name in (("images", "Image"), ("ground_truth_mask", "Mask")):
        shutil.copytree(tmp_path / "ECSSD" / folder, tmp_path / f"DUTS/DUTS-TE/DUTS-TE-{name}")
    shutil.copytree(masks / "ecssd", masks / "duts_te")
    other = ["--tables", "5", "--datasets", "duts_te", "--predictions", tmp_path / "masks"]
    more = reproduce(tmp_path, *other)
    assert more.returncode == 0, more.stderr
    assert started(more) == ["evaluate"]
    report = tmp_path / "out" / "masks" / "tokencut" / "evaluation" / "results.json"
    scored = {row["dataset"] for row in json.loads(report.read_text())["saliency"]}
    assert scored == {"ecssd", "duts_te"}
    assert "| ECSSD |" not in (tmp_path / "out" / "tables.md").read_text()


def test_killing_it_kills_its_command(tmp_path):
    make_ecssd(tmp_path)
    arguments = ["--tables", "1", "--datasets", "ecssd"]
    process = subprocess.Popen(
        command(tmp_path, *arguments, steps=1_000_000),
        cwd=REPOSITORY,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "baseline" / "run.json").exists():
            assert time.monotonic() < deadline, "the training has not started"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        # The pipe ends when the training, too, has let go of it.
        process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    assert json.loads((tmp_path / "out/baseline/trained.json").read_text())["finished"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "6"], "--tables=6: choose among 1, 2"),
        (["--datasets", "imagenet"], "imagenet: choose among dut_omron"),
        (["--tables", "2", "--datasets", "ecssd"], "none of these tables has one of these"),
        (["--weights", "ibot_vits16=/no/file"], "there is no file /no/file"),
        (["--weights", "resnet=a.pth"], "not NAME=PATH with one of .*ibot_vits16"),
        (["--predictions", "sempart_jax"], "is the folder of no method: .*tokencut"),
        (["--boxes", "/no/folder"], "there is no folder /no/folder"),
        (["--table", "1"], "Unknown command line flag 'table'"),
    ],
)
def test_errors_are_told_in_one_line(tmp_path, arguments, message):
    finished = reproduce(tmp_path, *arguments)
    assert finished.returncode == 1
    assert re.search(f"^error: .*{message}", finished.stderr, re.M | re.S), finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists()
