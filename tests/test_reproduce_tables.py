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

from tests.commands import REPOSITORY, SMALL, command_environment
from tests.reproduction.layouts import lay_out, write_voc07

pytestmark = pytest.mark.slow

SCENES = 5
OVER_HANDCRAFTED = "--method_args=--backbone handcrafted --resolution 32"
TRAIN_ARGS = " ".join(f"--config.{name}={value}" for name, value in SMALL.items())


def command(root, *arguments, steps=1):
    train_args = f"{TRAIN_ARGS} --config.data.train={root}/ECSSD/images --config.steps={steps}"
    script = [sys.executable, "-W", "error::DeprecationWarning:sempart_jax"]
    script += ["scripts/reproduce_tables.py", "--data_root", root, "--out", root / "out"]
    return [*map(str, script), f"--train_args={train_args}", *map(str, arguments)]


def reproduce(root, *arguments, **options):
    return subprocess.run(
        command(root, *arguments, **options),
        cwd=REPOSITORY,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def commands_of(finished):
    """The commands that were started, in their order, from the name of their module on."""
    return re.findall(rf"^{re.escape(sys.executable)} -m sempart_jax\.(.*)", finished.stdout, re.M)


def started(finished):
    """The modules of these commands."""
    return [line.split()[0] for line in commands_of(finished)]


def file_times(*folders):
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def lay_out_voc07(root):
    return write_voc07(root, sorted((root / "ECSSD" / "images").iterdir())[:3])


def test_table_is_made_once_and_an_interrupted_one_goes_on(tmp_path):
    lay_out(tmp_path, ["ECSSD"], SCENES)
    lay_out_voc07(tmp_path)
    out, arguments = tmp_path / "out", ["--tables", "4", "--datasets", "voc07,voc12"]
    runs = [out / name for name in ("baseline", "crop", "tricks")]
    # A file in the place of the report's folder: the second evaluation cannot but fail.
    obstacle = out / "crop" / "evaluation"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()

    failed = reproduce(tmp_path, *arguments)
    assert failed.returncode == 1
    assert started(failed) == ["train", "evaluate"] * 3
    assert re.search(
        r"^error: failed commands, 1 in all:\n  status 1 of .*/crop/", failed.stderr, re.M
    )
    assert re.search(r"^# skipped: voc12: no list of images", failed.stdout, re.M)
    table = json.loads((out / "tables.json").read_text())
    assert {row["origin"] for row in table["rows"]} == {None, "baseline", "tricks"}
    assert len(table["failed"]) == 1
    trained = file_times(out / "crop" / "checkpoints", *runs[::2])
    assert trained

    obstacle.unlink()
    finished = reproduce(tmp_path, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert started(finished) == ["evaluate"]
    assert file_times(out / "crop" / "checkpoints", *runs[::2]) == trained
    check_table_4(out, finished.stdout)

    before = file_times(*runs)
    again = reproduce(tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert started(again) == []
    assert again.stdout.count("# finished before: ") == 6
    assert file_times(*runs) == before
    check_table_4(out, again.stdout)

    changed = reproduce(tmp_path, *arguments, "--dry_run", steps=2)
    assert changed.returncode == 0, changed.stderr
    assert started(changed) == ["train", "evaluate"] * 3
    assert re.search(r"^# changed since .*steps=1' and is .*steps=2'", changed.stdout, re.M)
    assert file_times(*runs) == before


def check_table_4(out, printed):
    """Ours is that of ``results.json``, and stands beside the right published number."""
    rows = json.loads((out / "tables.json").read_text())["rows"]
    published = {
        ("baseline", "none"): 71.7,
        ("crop", "none"): 74.2,
        ("baseline", "guided"): 71.7,
        ("tricks", "guided"): 74.4,
    }
    ours = [row for row in rows if row["origin"]]
    assert {(row["origin"], row["postprocessing"]): row["published"] for row in ours} == published
    assert len(ours) == len(published)
    for row in ours:
        results = json.loads((out / row["origin"] / "evaluation" / "results.json").read_text())
        (found,) = (
            scores
            for scores in results["localization"]
            if scores["postprocessing"] == row["postprocessing"]
        )
        assert (found["dataset"], found["protocol"]) == ("voc07", "native")
        assert row["ours"] == found["corloc"]
        assert row["images"] == 3
        assert row["difference"] == pytest.approx(row["ours"] - row["published"])
        numbers = f"{row['ours']:.1f} | {row['published']:.1f} | {row['difference']:+.1f}"
        assert re.search(rf"VOC07 \| 3 \| native \| .*{re.escape(numbers)}", printed)
    assert printed.count("| VOC12 | – |") == 4
    assert (out / "tables.md").read_text() in printed


def test_dry_run_shows_all_commands_in_order(tmp_path):
    lay_out(tmp_path)
    masks = tmp_path / "masks" / "tokencut"
    shutil.copytree(tmp_path / "ECSSD" / "ground_truth_mask", masks / "ecssd")
    arguments = ["--tables", "1", "--datasets", "ecssd,duts_te", "--dry_run", OVER_HANDCRAFTED]
    arguments += ["--predictions", tmp_path / "masks", "--weights", "dino_vits8=random"]
    shown = reproduce(tmp_path, *arguments)
    assert shown.returncode == 0, shown.stderr
    out = tmp_path / "out"
    over = f"--backbone handcrafted --resolution 32 --data_root {tmp_path}"
    found = f"--method found_single --backbone dino_vits8 --weights random --decoder {out}/found"
    expected = [
        f"evaluate --method lost --backbone dino_vits16 {over} --datasets duts_te,ecssd ",
        f"evaluate --predictions {masks} --data_root {tmp_path} --datasets ecssd ",
        f"evaluate --method tokencut --backbone dino_vits16 {over} --datasets duts_te ",
        f"train --config configs/found.py --workdir {out}/found ",
        f"evaluate {found} --backbone handcrafted ",
        f"train --config configs/baseline.py --workdir {out}/baseline ",
        f"evaluate --workdir {out}/baseline ",
        f"train --config configs/tricks.py --workdir {out}/tricks ",
        f"evaluate --workdir {out}/tricks ",
        f"segment {tmp_path}/ECSSD/images --workdir {out}/baseline --out {out}/pseudo_masks/base",
        f"train --config configs/selfmask.py --config.pseudo_masks={out}/pseudo_masks/baseline-",
        f"evaluate --workdir {out}/selfmask_baseline ",
        f"segment {tmp_path}/ECSSD/images --workdir {out}/tricks --out {out}/pseudo_masks/tricks-",
        f"train --config configs/selfmask.py --config.pseudo_masks={out}/pseudo_masks/tricks-",
        f"evaluate --workdir {out}/selfmask_tricks ",
    ]
    lines = commands_of(shown)
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected
    assert all(line.endswith("--config.steps=1") for line in lines if line.startswith("train "))
    left_out = re.findall(r"^# not run: (\w+): no saved masks", shown.stdout, re.M)
    assert left_out == ["move", "sempart", "selfmask_move", "selfmask_sempart"]
    assert not out.exists()

    decoder = tmp_path / "decoder.pt"
    decoder.touch()
    shown = reproduce(tmp_path, *arguments, "--notrain", "--found_decoder", decoder)
    assert shown.returncode == 0, shown.stderr
    assert started(shown) == ["evaluate"] * 4
    assert f" --decoder {decoder} " in commands_of(shown)[-1]
    left_out = re.findall(r"^# not run: run (\w+): (.*)", shown.stdout, re.M)
    assert [name for name, _ in left_out] == [
        *("baseline", "tricks", "selfmask_baseline", "selfmask_tricks")
    ]
    assert left_out[-1][1] == "the run tricks, whose masks it learns from, is not trained"


def test_given_masks_and_boxes_and_computed_ones(tmp_path):
    lay_out(tmp_path, ["ECSSD"], SCENES)
    boxes = lay_out_voc07(tmp_path)
    masks = tmp_path / "masks" / "tokencut"
    shutil.copytree(tmp_path / "ECSSD" / "ground_truth_mask", masks / "ecssd")
    boxes["000001"] = (0, 0, 2, 2)
    (tmp_path / "boxes" / "lost").mkdir(parents=True)
    (tmp_path / "boxes" / "lost" / "voc07.json").write_text(json.dumps(boxes))
    arguments = ["--tables", "2,5", "--datasets", "ecssd,voc07", "--notrain"]
    arguments += ["--predictions", tmp_path / "masks", "--boxes", tmp_path / "boxes"]
    arguments.append(OVER_HANDCRAFTED)

    finished = reproduce(tmp_path, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert started(finished) == ["evaluate"] * 4
    assert "# not run: move: no saved masks" in finished.stdout
    assert "# not run: run tricks: it is not trained" in finished.stdout
    table = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert table["method_args"] == ["--backbone", "handcrafted", "--resolution", "32"]
    ours = {
        (row["method"], row["postprocessing"], row["protocol"], row["metric"]): row
        for row in table["rows"]
        if row["ours"] is not None
    }
    lost = ours.pop(("LOST", "none", "boxes", "corloc"))
    assert lost["ours"] == pytest.approx(200 / 3)
    assert lost["difference"] == pytest.approx(200 / 3 - 61.9)
    for method, published in (("Deep Spectral", 62.7), ("TokenCut", 68.8)):
        computed = ours.pop((method, "none", "native", "corloc"))
        assert computed["origin"].startswith("methods/")
        assert (computed["images"], computed["published"]) == (3, published)
        results = tmp_path / "out" / computed["origin"] / "evaluation" / "results.json"
        rows = json.loads(results.read_text())["localization"]
        scores = {row["postprocessing"]: row["corloc"] for row in rows}
        assert computed["ours"] == scores["none"]
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


def test_told_to_end_it_lets_its_training_keep_what_it_has_done(tmp_path):
    lay_out(tmp_path, ["ECSSD"], SCENES)
    lay_out_voc07(tmp_path)
    arguments = ["--tables", "4", "--datasets", "voc07"]
    process = subprocess.Popen(
        command(tmp_path, *arguments, steps=1_000_000),
        cwd=REPOSITORY,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        metrics = tmp_path / "out/baseline/metrics.jsonl"
        while not metrics.exists() or not metrics.stat().st_size:
            assert time.monotonic() < deadline, "the training has not started"
            time.sleep(0.1)
        second = reproduce(tmp_path, *arguments)
        assert second.returncode == 1
        assert re.search(rf"error: \S+ is in use by process {process.pid} on", second.stderr)
        process.send_signal(signal.SIGTERM)
        # The pipe ends when the training, too, has let go of it.
        printed, _ = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    assert "waiting for the command to keep what it has done" in printed
    assert json.loads((tmp_path / "out/baseline/run.json").read_text())["kept step"] > 0
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
        (["--found_decoder", "/no/file"], "--found_decoder: there is no file /no/file"),
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
