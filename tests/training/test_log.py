"""The files that a run writes while it trains, read back."""

import io
import json
import resource
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

from sempart_jax.host.errors import WriteError
from sempart_jax.training.log import TrainingLog


def open_log(workdir, first_step=0, last_step=10, batch_size=4):
    return TrainingLog(workdir, first_step=first_step, last_step=last_step, batch_size=batch_size)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir):
    """Parse the newest event file: records of length, its checksum, bytes, their checksum."""
    path = max((workdir / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    data, parsed, start = path.read_bytes(), [], 0
    while start < len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        parsed.append(Event.FromString(data[start + 12 : start + 12 + length]))
        start += length + 16
    return parsed


def values(workdir):
    return [(event.step, value) for event in events(workdir) for value in event.summary.value]


def purged_from(workdir):
    """Step from which TensorBoard hides what older files hold."""
    (step,) = [e.step for e in events(workdir) if e.session_log.status == SessionLog.START]
    return step


def test_curves_are_those_of_all_numbers_so_far(tmp_path):
    with open_log(tmp_path) as log:
        log.scalars(5, {"total": 0.1, "ncut": 1.25})
        log.curves()
        with Image.open(tmp_path / "curves.png") as picture:
            two = picture.size
        log.scalars(5, {"iou": 0.5}, "validation")
        log.curves()
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.size == (two[0] / 2 * 3, two[1])


def test_scalars_go_to_jsonl_and_tensorboard(tmp_path):
    with open_log(tmp_path) as log:
        log.scalars(5, {"total": 0.1, "ncut": 1.25})
        log.scalars(5, {"iou fine": 0.75}, "validation")
        log.scalars(10, {"total": 1e-12})
    assert rows(tmp_path) == [
        {"step": 5, "train/total": 0.1, "train/ncut": 1.25},
        {"step": 5, "validation/iou fine": 0.75},
        {"step": 10, "train/total": 1e-12},
    ]
    written = [(step, value.tag, value.simple_value) for step, value in values(tmp_path)]
    assert [(step, tag) for step, tag, _ in written] == [
        (5, "train/total"),
        (5, "train/ncut"),
        (5, "validation/iou_fine"),
        (10, "train/total"),
    ]
    np.testing.assert_allclose([value for *_, value in written], [0.1, 1.25, 0.75, 1e-12], 1e-6)


def test_row_is_on_disk_before_the_log_is_closed(tmp_path):
    with open_log(tmp_path) as log:
        log.scalars(1, {"total": 0.5})
        assert rows(tmp_path) == [{"step": 1, "train/total": 0.5}]
        assert [step for step, _ in values(tmp_path)] == [1]


def test_panel_goes_to_png_and_tensorboard(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    with open_log(tmp_path) as log:
        log.panel(40, picture)
    with Image.open(tmp_path / "panels" / "step_0000040.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    ((step, value),) = values(tmp_path)
    assert (step, value.tag, value.image.height, value.image.width) == (40, "panel", 6, 9)
    with Image.open(io.BytesIO(value.image.encoded_image_string)) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)


def test_resumed_log_drops_what_will_be_logged_again(tmp_path):
    with open_log(tmp_path) as log:
        for step in (2, 4, 6, 8):
            log.scalars(step, {"total": float(step)})
            log.scalars(step, {"iou": 0.5}, "validation")
    with open_log(tmp_path, first_step=4) as log:
        log.scalars(6, {"total": 60.0})
    assert rows(tmp_path) == [
        {"step": 2, "train/total": 2.0},
        {"step": 2, "validation/iou": 0.5},
        {"step": 4, "train/total": 4.0},
        {"step": 4, "validation/iou": 0.5},
        {"step": 6, "train/total": 60.0},
    ]
    assert purged_from(tmp_path) == 5


def test_run_that_starts_over_drops_step_0_too(tmp_path):
    with open_log(tmp_path) as log:
        log.scalars(0, {"iou": 0.1}, "validation")
        log.scalars(1, {"total": 1.0})
    with open_log(tmp_path) as log:
        log.scalars(0, {"iou": 0.2}, "validation")
    assert rows(tmp_path) == [{"step": 0, "validation/iou": 0.2}]
    assert purged_from(tmp_path) == 0


@pytest.mark.parametrize("cut", range(1, 31))
def test_half_a_line_is_tolerated(tmp_path, cut):
    whole, last = '{"step": 1, "train/total": 0.5}', '{"step": 2, "train/total": 0.25}'
    (tmp_path / "metrics.jsonl").write_text(f"{whole}\n{last[:cut]}")
    with open_log(tmp_path, first_step=3) as log:
        log.scalars(4, {"total": 0.0})
    assert rows(tmp_path) == [json.loads(whole), {"step": 4, "train/total": 0.0}]


def test_line_that_lacks_its_end_alone_is_kept_as_a_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/total": 0.5}')
    with open_log(tmp_path, first_step=1) as log:
        log.scalars(2, {"total": 0.25})
    assert rows(tmp_path) == [
        {"step": 1, "train/total": 0.5},
        {"step": 2, "train/total": 0.25},
    ]


def test_files_are_closed_after_an_error(tmp_path):
    log = open_log(tmp_path)
    log.scalars(1, {"total": 0.5})
    with pytest.raises(RuntimeError, match="stop"), log:
        raise RuntimeError("stop")
    assert [step for step, _ in values(tmp_path)] == [1]
    with pytest.raises(ValueError, match="closed"):
        log.scalars(2, {"total": 0.5})


@pytest.fixture
def no_room():
    """Let no file grow beyond 50 kB, which is told as a full disk is, wherever the tests run."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def log_for_ever(log):
    for step in range(1, 10_000):
        log.scalars(step, {"total": 0.5})


@pytest.mark.timeout(60)
def test_numbers_that_find_no_room_are_an_error_and_do_not_hang(tmp_path, no_room):
    named = f"cannot write {tmp_path}/(tensorboard|metrics).*: File too large"
    with pytest.raises(WriteError, match=named), open_log(tmp_path) as log:
        log_for_ever(log)
    logged = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    with open_log(tmp_path, first_step=3) as log:
        log.scalars(4, {"total": 0.25})
    assert logged > 100
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_a_panel_that_finds_no_room_is_an_error_and_leaves_no_half_file(tmp_path, no_room):
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    named = rf"cannot write {tmp_path}/panels/step_0000040\.png: File too large"
    with pytest.raises(WriteError, match=named), open_log(tmp_path) as log:
        log.panel(40, picture)
    assert list((tmp_path / "panels").iterdir()) == []


def test_the_first_of_two_errors_is_told(tmp_path, monkeypatch):
    log = open_log(tmp_path)
    close = RecordWriter.close

    def fail(self):
        close(self)
        raise OSError("no room")

    monkeypatch.setattr(RecordWriter, "close", fail)
    with pytest.raises(RuntimeError, match="stop"), log:
        raise RuntimeError("stop")
    with pytest.raises(OSError, match="no room"), log:
        pass


def test_progress_counts_images_from_the_first_step(tmp_path, capsys):
    with open_log(tmp_path, first_step=5, last_step=10, batch_size=4) as log:
        for _ in range(5):
            log.advance()
        log.say("step 10, validation IoU: fine 0.5")
    captured = capsys.readouterr()
    assert "step 10, validation IoU: fine 0.5\n" in captured.out
    assert "20/40" in captured.err
    assert "40/40" in captured.err


def test_progress_shows_the_loss(tmp_path, capsys):
    with open_log(tmp_path) as log:
        log.scalars(1, {"total": 0.12344})
        log.advance()
    assert "loss=0.1234" in capsys.readouterr().err


def test_rows_that_are_none_are_left_out_and_named(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"stap": 1}\n17\n{"step": "2"}\n{"step": 2}\n{"st')
    with open_log(tmp_path, first_step=2):
        pass
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    for number in (2, 3, 4):
        assert f"{path}: ignoring line {number}, which has no step" in caplog.text
