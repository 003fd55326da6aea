"""Collections into folders: again, in shards, with bad files and other settings."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.images import read_grey
from sempart_jax.host.errors import WriteError
from sempart_jax.host.folder_lock import FolderInUseError, locked
from sempart_jax.segmentation.collection import Summary, segment
from sempart_jax.segmentation.inputs import Shard
from tests.segmentation.red_images import red_segmenter, red_square, write_red


@pytest.fixture
def photos(tmp_path):
    for i in range(10):
        write_red(tmp_path / f"photos/{'even' if i % 2 == 0 else 'odd'}/{i}.png", 30 + i, 40 - i)
    return tmp_path / "photos"


def run(out, *arguments, segmenter=None, **options):
    made = segmenter or red_segmenter()
    summary = segment([str(argument) for argument in arguments], out, made, **options)
    return summary.done, summary.skipped, len(summary.failed)


def records(out):
    lines = [line for path in out.glob("masks.*jsonl") for line in path.read_text().splitlines()]
    found = [json.loads(line) for line in lines]
    assert len({record["image"] for record in found}) == len(found)
    return {record["image"]: record for record in found}


def timeless(found):
    return {key: {**record, "seconds": 0} for key, record in found.items()}


def written(out):
    return {
        str(path.relative_to(out)): path.read_bytes()
        for kind in ("masks", "overlays", "cutouts")
        for path in (out / kind).rglob("*")
        if path.is_file()
    }


def test_a_second_call_does_what_is_new_changed_or_lost(photos, tmp_path):
    out = tmp_path / "out"
    assert run(out, photos) == (10, 0, 0)
    before = records(out)
    for record in before.values():
        mask = read_grey(out / record["mask"])
        assert mask.shape == (record["height"], record["width"])
        assert set(np.unique(mask)) == {0, 255}
        assert mask.mean() / 255 == pytest.approx(record["area"], abs=1e-6)
    assert len(written(out)) == 30
    assert (out / "masks/even/0.png").is_file()
    assert list(out.glob(".partial*")) == []
    assert run(out, photos) == (0, 10, 0)
    assert records(out) == before
    write_red(photos / "new.png")
    write_red(photos / "odd/1.png", 20, 20, rows=(0, 4))
    (out / before[str(photos / "even/4.png")]["cutout"]).unlink()
    assert run(out, photos) == (3, 8, 0)
    after = records(out)
    assert after[str(photos / "odd/1.png")]["height"] == 20
    assert (out / "cutouts/even/4.png").is_file()
    # What was done again may have taken just as long as before.
    known = timeless(before)
    changed = {key for key, record in timeless(after).items() if known.get(key) != record}
    assert changed == {str(photos / name) for name in ("new.png", "odd/1.png")}
    # Of other images nothing is forgotten.
    assert run(out, photos / "new.png") == (0, 1, 0)
    assert records(out) == after
    # A killed process leaves half a line.
    path = out / "masks.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert run(out, photos) == (1, 10, 0)
    assert len(records(out)) == 11


def test_outputs_within_the_folder_of_the_images_are_no_images(photos):
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    assert run(photos, photos) == (10, 0, 0)
    assert run(photos, photos) == (0, 10, 0)
    assert run(photos / "out", photos) == (10, 0, 0)
    assert run(photos / "out", photos, photos / "**/*.png") == (0, 10, 0)
    assert {path: path.read_bytes() for path in before} == before


def test_other_settings_are_refused_unless_all_is_done_again(photos, tmp_path):
    out = tmp_path / "out"
    run(out, photos)
    before = records(out)
    seen = red_segmenter()
    seen.predictor.short_side = 64
    for name, options in {
        "mask": {"mask": "soft"},
        "outputs": {"outputs": ["mask"]},
        "threshold": {"threshold": 0.25},
        "largest_component": {"largest_component": True},
        "objects": {"objects": 3},
        "least_confidence": {"least_confidence": 0.6},
        "refine": {"segmenter": red_segmenter(refine="guided")},
        "invert": {"segmenter": red_segmenter(invert="auto")},
        "resolution": {"segmenter": seen},
        "network": {"segmenter": red_segmenter(network="another")},
    }.items():
        with pytest.raises(ValueError, match=f"was written with {name} = "):
            run(out, photos, **options)
    assert records(out) == before
    assert run(out, photos, overwrite=True, mask="soft") == (10, 0, 0)
    assert len(records(out)) == 10
    # The batch size is no setting.
    assert run(out, photos, mask="soft", segmenter=red_segmenter(batch_size=3)) == (0, 10, 0)


def test_objects_are_counted_by_their_rows_when_a_run_continues(photos, tmp_path):
    out, two = tmp_path / "out", red_square(60, 90, (10, 40), (5, 35))
    two[20:50, 50:80] = two[20, 20]
    Image.fromarray(two).save(photos / "two.png")
    assert run(out, photos, objects=3) == (11, 0, 0)
    lines = (out / "masks.jsonl").read_text().splitlines()
    assert len(lines) == 12
    assert [json.loads(line)["objects"] for line in lines].count(2) == 2
    assert run(out, photos, objects=3) == (0, 11, 0)
    assert (out / "masks.jsonl").read_text().splitlines() == lines
    with pytest.raises(ValueError, match="was written with objects = 3, now it is not given"):
        run(out, photos)
    # Killed between two of its rows.
    last = max(k for k, line in enumerate(lines) if json.loads(line)["objects"] == 2)
    (out / "masks.jsonl").write_text(
        "".join(f"{each}\n" for each in lines[:last] + lines[last + 1 :])
    )
    assert run(out, photos, objects=3) == (1, 10, 0)
    assert len((out / "masks.jsonl").read_text().splitlines()) == 12


def test_the_default_writes_no_word_of_objects(photos, tmp_path):
    run(tmp_path / "out", photos)
    settings = json.loads((tmp_path / "out/segmentation.json").read_text())
    assert not {"objects", "least_confidence"} & set(settings)
    assert not {"object", "objects"} & set(next(iter(records(tmp_path / "out").values())))


def test_numbered_objects_are_not_inverted(photos, tmp_path):
    segmenter = red_segmenter(invert="auto")
    segmenter.predictor.numbered = True
    with pytest.raises(ValueError, match="cannot be inverted: leave --invert out"):
        run(tmp_path / "out", photos, segmenter=segmenter, objects=3)


def test_shards_together_are_the_whole(photos, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # Names that collide must not depend on who sees which image.
    write_red(photos / "even/0.jpg", 50, 50)
    assert run(whole, photos) == (11, 0, 0)
    done = [run(parts, photos, shard=Shard(index, 3))[0] for index in (2, 0, 1)]
    assert sum(done) == 11
    assert sorted(path.name for path in parts.glob("*.jsonl")) == [
        f"masks.{index}-of-3.jsonl" for index in range(3)
    ]
    assert timeless(records(parts)) == timeless(records(whole))
    assert written(parts) == written(whole)
    # Whoever did it: it is done.
    assert run(parts, photos) == (0, 11, 0)
    assert sum(run(parts, photos, shard=Shard(i, 2))[1] for i in range(2)) == 11
    # Unless all is to be done again.
    again = {"mask": "soft", "overwrite": True}
    assert sum(run(parts, photos, shard=Shard(i, 2), **again)[0] for i in range(2)) == 11
    assert len(records(parts)) == 11


def test_a_second_call_at_the_same_time_is_refused(photos, tmp_path):
    out = tmp_path / "out"
    parts = [Shard(index, 2) for index in range(2)]
    with locked(out, "--out"), pytest.raises(FolderInUseError, match=r"out is in use by process"):
        run(out, photos)
    assert records(out) == {}
    with locked(out, "--out", part=f".{parts[0].label}"):
        with pytest.raises(FolderInUseError, match="or give another --out"):
            run(out, photos, shard=parts[0])
        others = run(out, photos, shard=parts[1])[0]
    assert run(out, photos) == (10 - others, others, 0)


def test_processes_of_a_cluster_share(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    done = 0
    for index in range(2):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        done += run(tmp_path / "out", photos)[0]
    assert done == 10
    assert (tmp_path / "out/masks.1-of-2.jsonl").is_file()


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    one = write_red(tmp_path / "one/a.png", 20, 20)
    inputs = [one, write_red(tmp_path / "one/a.jpg", 21, 20), write_red(tmp_path / "two/a.png", 22)]
    out = tmp_path / "out"
    assert run(out, tmp_path / "one", tmp_path / "two", one, one) == (3, 0, 0)
    found = records(out)
    for path in inputs:
        record = found[str(path)]
        assert read_grey(out / record["mask"]).shape == (record["height"], record["width"])
    assert {record["height"] for record in found.values()} == {20, 21, 22}
    assert len({record["mask"] for record in found.values()}) == 3
    # One that comes later gets a name of its own, and the old ones keep theirs.
    late = tmp_path / "late"
    assert run(late, tmp_path / "one/a.png") == (1, 0, 0)
    assert run(late, tmp_path / "two") == (1, 0, 0)
    assert run(late, tmp_path / "one", tmp_path / "two") == (1, 2, 0)
    assert len({record["mask"] for record in records(late).values()}) == 3


HOSTILE = (
    *("a b.png", 'it\'s "x".png', "two\nlines.png", "..png", "...png", "*.png", "-x.png", "~.png"),
    *("%s.png", os.fsdecode(b"caf\xe9.png"), "x" * 251 + ".png"),
)


def test_hostile_names(tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    for name in HOSTILE:
        write_red(folder / name)
    before = set(tmp_path.rglob("*"))
    hidden = [folder / name for name in HOSTILE if name.startswith(".")]
    assert run(out, folder, *hidden) == (len(HOSTILE), 0, 0)
    assert run(out, folder, *hidden) == (0, len(HOSTILE), 0)
    assert {Path(image).name for image in records(out)} == set(HOSTILE)
    assert all(path.is_relative_to(out) for path in set(tmp_path.rglob("*")) - before)
    assert len(written(out)) == 3 * len(HOSTILE)


def test_what_cannot_be_read_is_listed_and_tried_again(photos, tmp_path):
    bad = photos / "bad.png"
    bad.write_bytes(b"no image")
    summary = Summary()
    assert run(tmp_path / "out", photos, bad, summary=summary) == (10, 0, 1)
    assert "not an image" in summary.failed[bad]
    assert re.fullmatch(
        r"10 images in \S+ seconds, \S+ images/s, 0 skipped, 1 failed", str(summary)
    )
    write_red(bad)
    assert run(tmp_path / "out", photos) == (1, 10, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("lost")])
def test_what_was_finished_before_an_interruption_is_kept(photos, tmp_path, error):
    out, summary = tmp_path / "out", Summary()
    segmenter = red_segmenter(batch_size=1, error=error, error_after=6)
    with pytest.raises(type(error)):
        run(out, photos, segmenter=segmenter, summary=summary)
    kept = records(out)
    assert len(kept) == summary.done <= 6
    assert len(written(out)) == 3 * summary.done
    assert list(out.glob(".partial*")) == []
    assert run(out, photos) == (10 - summary.done, summary.done, 0)
    assert len(records(out)) == 10


def test_a_folder_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        WriteError, match=r"cannot write .*file: .*file is a file, and a folder is wanted"
    ):
        run(tmp_path / "file", photos)
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "out").mkdir(mode=0o500)
        with pytest.raises(WriteError, match=r"cannot write .*out: Permission denied"):
            run(tmp_path / "out", photos)
