"""Segmenting collections through the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.images import read_grey, read_image
from sempart_jax.data.synthetic import write_scenes
from sempart_jax.predict.load import load_method_segmenter
from tests.commands import REPOSITORY, command_environment, run_module, run_train


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run of one step, and scenes of one size in the folder ``scenes/images``."""
    root = tmp_path_factory.mktemp("segment")
    write_scenes(root / "scenes", 24, size=48)
    images = root / "scenes/images"
    finished = run_train(root / "run", images, steps=1, config="baseline")
    assert finished.returncode == 0, finished.stderr
    return root


def segment(root, *arguments):
    return run_module("segment", *arguments, "--workdir", root / "run")


def records(out):
    lines = [line for path in out.glob("masks.*jsonl") for line in path.read_text().splitlines()]
    return {record["image"]: record for record in map(json.loads, lines)}


@pytest.mark.slow
def test_images_are_segmented_and_what_fails_is_listed(root, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        scene = Image.open(root / f"scenes/images/scene_000{i}.png")
        scene.resize((40 + 16 * i, 48)).save(photos / f"{i}.png")
        scene.close()
    (photos / "bad\nname.png").write_bytes(b"no image")
    strange = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    (photos / "0.png").rename(strange)
    out = tmp_path / "out"
    command = ["--out", out, photos, strange, "--mask", "soft", "--outputs=mask,overlay"]
    first = segment(root, *command)
    assert first.returncode == 1
    pattern = r"3 images in \d+\.\d seconds, \d+\.\d+ images/s, {} skipped, 1 failed\n"
    assert re.fullmatch(pattern.format(0), first.stdout)
    failed = [line for line in first.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1
    assert r"bad\nname.png': not an image in one of the formats" in failed[0]
    assert "Traceback" not in first.stderr
    assert len(records(out)) == 3
    for record in records(out).values():
        assert read_grey(out / record["mask"]).shape == (48, record["width"])
    assert not (out / "cutouts").exists()
    (photos / "bad\nname.png").unlink()
    again = segment(root, *command)
    assert again.returncode == 0, again.stderr
    assert "0 images in" in again.stdout
    assert "3 skipped, 0 failed" in again.stdout
    other = segment(root, *command, "--resolution", "64")
    assert other.returncode == 1
    assert "was written with resolution = 32, now it is 64" in other.stderr
    anew = segment(root, *command, "--resolution", "64", "--overwrite")
    assert anew.returncode == 0, anew.stderr
    assert "0 skipped" in anew.stdout


@pytest.mark.slow
def test_killed_and_started_again_it_gives_the_same(root, tmp_path):
    # One image at a time: batches of another size would round differently.
    command = [root / "scenes/images", "--batch_size=1", "--workdir", root / "run"]
    whole = run_module("segment", *command, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    killed = subprocess.Popen(
        [sys.executable, "-m", "sempart_jax.segment", *map(str, command), "--out", str(out)],
        cwd=REPOSITORY,
        env=command_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    waited = time.monotonic()
    while len(records_so_far(out)) < 2:
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() - waited < 300
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = records_so_far(out)
    assert 2 <= len(done) < 24
    # Each record's files are whole.
    for line in done:
        record = json.loads(line)
        for kind in ("mask", "overlay", "cutout"):
            with Image.open(out / record[kind]) as picture:
                picture.load()
    again = run_module("segment", *command, "--out", out)
    assert again.returncode == 0, again.stderr
    assert f"{24 - len(done)} images in" in again.stdout
    assert f"{len(done)} skipped" in again.stdout
    ours, theirs = records(out), records(tmp_path / "whole")
    assert set(ours) == set(theirs)
    assert len((out / "masks.jsonl").read_text().splitlines()) == 24
    for image, record in ours.items():
        assert (record["name"], record["box"]) == (theirs[image]["name"], theirs[image]["box"])
        ours_mask = (out / record["mask"]).read_bytes()
        assert ours_mask == (tmp_path / "whole" / theirs[image]["mask"]).read_bytes()
    assert list(out.glob(".partial-*")) == []


def records_so_far(out):
    path = out / "masks.jsonl"
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


@pytest.mark.slow
def test_priors_segment_without_a_network(tmp_path):
    write_scenes(tmp_path / "scenes", 2, size=48)
    images, out = tmp_path / "scenes/images", tmp_path / "out"
    arguments = ("--method=priors", "--mask=soft", "--outputs=mask", "--out", out)
    finished = run_module("segment", images, *arguments)
    assert finished.returncode == 0, finished.stderr
    segmenter = load_method_segmenter("priors")
    assert set(records(out)) == {str(path) for path in images.iterdir()}
    for image, record in records(out).items():
        written = read_grey(out / record["mask"])
        np.testing.assert_allclose(written, segmenter(read_image(image)) * 255, atol=0.51)
        assert len(np.unique(written)) > 2


@pytest.mark.slow
def test_objects_have_a_row_each_and_other_numbers_of_them_are_refused(tmp_path):
    write_scenes(tmp_path / "scenes", 2, size=48)
    out = tmp_path / "out"
    common = ("--backbone=handcrafted", "--resolution=48", "--outputs=mask", "--out", out)

    def run(*arguments):
        return run_module("segment", tmp_path / "scenes/images", *common, *arguments)

    first = run("--method=maskcut", "--objects=all")
    assert first.returncode == 0, first.stderr
    rows = [json.loads(line) for line in (out / "masks.jsonl").read_text().splitlines()]
    assert len({row["image"] for row in rows}) == 2
    for row in rows:
        with Image.open(out / row["mask"]) as mask:
            assert mask.mode == "P"
            assert np.asarray(mask).max() == row["objects"]
    other = run("--method=maskcut", "--objects=2")
    assert other.returncode == 1
    assert "was written with objects = 254, now it is 2" in other.stderr


@pytest.mark.slow
def test_a_method_segments_without_a_run(tmp_path):
    write_scenes(tmp_path / "scenes", 2, size=48)
    images, out = tmp_path / "scenes/images", tmp_path / "out"

    def run(method, *arguments):
        common = ("--backbone", "handcrafted", "--resolution", "48", "--outputs=mask")
        return run_module("segment", images, "--method", method, *common, "--out", out, *arguments)

    first = run("tokencut")
    assert first.returncode == 0, first.stderr
    assert "2 images in" in first.stdout
    segmenter = load_method_segmenter("tokencut", backbone="handcrafted", resolution=48)
    assert set(records(out)) == {str(path) for path in images.iterdir()}
    for image, record in records(out).items():
        mask = segmenter(read_image(image)) > 0.5
        np.testing.assert_array_equal(read_grey(out / record["mask"]) > 0, mask)
        assert 0 < mask.mean() < 1
    other = run("lost")
    assert other.returncode == 1
    assert "was written with method = tokencut, now it is lost" in other.stderr
