"""The record of a run that guards its resumption."""

import json
import subprocess

import pytest

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.host.config_fields import flatten
from sempart_jax.host.errors import WriteError
from sempart_jax.runs import run_record
from sempart_jax.runs.default_config import RESUMABLE_FIELDS, default_config
from sempart_jax.runs.run_config import PATH_FIELDS
from sempart_jax.runs.run_record import (
    ResumeError,
    check_nothing_lost,
    is_complete,
    note_kept_step,
    read_config,
)


def register_run(workdir, config, fingerprints, *, last_step=10):
    run_record.register_run(
        workdir,
        config,
        fingerprints,
        last_step=last_step,
        default=default_config(),
        resumable_fields=RESUMABLE_FIELDS,
    )


def with_batch(size):
    config = default_config()
    config.batch_size = size
    return config


def read_record(workdir):
    return json.loads((workdir / "run.json").read_text())


PRINTS = {"training images": "aaaa", "backbone weights": "bbbb"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """Work in an empty folder, where the paths of the default configuration lead nowhere."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def with_path(field, value):
    config = default_config()
    config.update_from_flattened_dict({field: value})
    return config


def recorded_path(workdir, field):
    """Return the path of a field as whoever reads the run finds it."""
    return flatten(read_config(workdir, default_config()))[field]


def test_a_run_is_registered_and_read_back(tmp_path):
    config = default_config()
    config.batch_size = 4
    register_run(tmp_path / "run", config, PRINTS)
    assert read_config(tmp_path / "run", default_config()) == config
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())
    assert recorded == PRINTS | {"last step": 10}
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("field", PATH_FIELDS)
def test_what_a_run_records_is_found_from_anywhere(tmp_path, monkeypatch, field):
    (tmp_path / "given").touch()
    monkeypatch.chdir(tmp_path)
    register_run("runs/a", with_path(field, "given"), PRINTS)
    (tmp_path / "runs/b").mkdir()
    monkeypatch.chdir("runs/b")
    assert recorded_path("../a", field) == str(tmp_path / "given")


@pytest.mark.parametrize("folder", ["run", "{here}/run", "link", "run/../run"])
def test_a_moved_run_finds_what_lies_inside_it(tmp_path, monkeypatch, folder):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/vit.npz").touch()
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    weights = f"{folder.format(here=tmp_path)}/vit.npz"
    register_run("run", with_path("backbone.weights", weights), PRINTS)
    (tmp_path / "run").rename(tmp_path / "moved")
    found = tmp_path / "moved/vit.npz"
    assert recorded_path(tmp_path / "moved", "backbone.weights") == str(found)


@pytest.mark.parametrize("value", ["", "hf:owner/name", "random", "gone.npz"])
def test_what_is_no_path_here_is_recorded_as_it_is(tmp_path, value):
    register_run(tmp_path, with_path("backbone.weights", value), PRINTS)
    assert recorded_path(tmp_path, "backbone.weights") == value


def test_the_paths_of_an_older_run_are_seen_from_here(tmp_path, monkeypatch):
    write_atomically(tmp_path / "run/config.json", '{"backbone": {"weights": "vit.npz"}}')
    (tmp_path / "vit.npz").touch()
    monkeypatch.chdir(tmp_path)
    assert recorded_path("run", "backbone.weights") == "vit.npz"


def test_resuming_the_same_run_is_allowed_and_may_extend_it(tmp_path):
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    config.steps = 40
    config.data.workers = 2
    config.data.train = "elsewhere"
    register_run(tmp_path, config, PRINTS)
    assert read_config(tmp_path, default_config()).steps == 40


def test_a_run_from_before_the_head_had_a_type_is_continued_in_float32_alone(tmp_path):
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    note_kept_step(tmp_path, 7)
    fields = json.loads((tmp_path / "config.json").read_text())
    del fields["head"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    half = default_config()
    half.head.dtype = "bfloat16"
    with pytest.raises(ResumeError, match=r"head\.dtype: 'float32' -> 'bfloat16'"):
        register_run(tmp_path, half, PRINTS)
    register_run(tmp_path, config, PRINTS)
    assert read_config(tmp_path, default_config()) == config


def test_a_run_from_before_features_were_chosen_is_continued_with_those_of_its_family(tmp_path):
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    note_kept_step(tmp_path, 7)
    fields = json.loads((tmp_path / "config.json").read_text())
    del fields["backbone"]["features"], fields["backbone"]["position_directions"]
    assert fields["backbone"] == {"name": "dino_vits8", "dtype": "float32", "weights": ""}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    chosen = default_config()
    chosen.backbone.features = "tokens"
    with pytest.raises(ResumeError, match=r"backbone\.features: '' -> 'tokens'"):
        register_run(tmp_path, chosen, PRINTS)
    register_run(tmp_path, config, PRINTS)
    assert read_config(tmp_path, default_config()) == config


def test_a_run_that_recorded_a_cache_is_read_and_continued_without(tmp_path):
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    note_kept_step(tmp_path, 7)
    fields = json.loads((tmp_path / "config.json").read_text())
    fields["data"]["cache_gigabytes"] = 6.0
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert read_config(tmp_path, default_config()) == config
    register_run(tmp_path, config, PRINTS)
    assert "cache_gigabytes" not in (tmp_path / "config.json").read_text()


def test_a_changed_config_is_refused_and_named(tmp_path):
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    note_kept_step(tmp_path, 7)
    config.batch_size = 16
    config.loss.weights.ncut_crop = 0.5
    with pytest.raises(ResumeError) as caught:
        register_run(tmp_path, config, PRINTS)
    assert "batch_size: 8 -> 16" in str(caught.value)
    assert "loss.weights.ncut_crop: 0.01 -> 0.5" in str(caught.value)
    assert read_config(tmp_path, default_config()).batch_size == 8


@pytest.mark.parametrize("name", list(PRINTS))
def test_other_images_or_weights_are_refused(tmp_path, name):
    register_run(tmp_path, default_config(), PRINTS)
    note_kept_step(tmp_path, 7)
    with pytest.raises(ResumeError, match=name):
        register_run(tmp_path, default_config(), PRINTS | {name: "cccc"})


def test_reading_no_run_or_a_damaged_one_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in"):
        read_config(tmp_path, default_config())
    (tmp_path / "config.json").write_text('{"seed": 0,')
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        read_config(tmp_path, default_config())
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json holds no JSON object"):
        read_config(tmp_path, default_config())


@pytest.mark.parametrize("trace", ["checkpoints/7", "best/7", "checkpoints/7.damaged"])
def test_a_run_that_has_kept_nothing_may_change(tmp_path, trace):
    """It may have failed by what is now put right; a first score is of the old configuration."""
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    (tmp_path / "best" / "0").mkdir(parents=True)
    (tmp_path / "best" / "other").touch()
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n')
    config.batch_size = 16
    changed = PRINTS | {"training images": "cccc"}
    register_run(tmp_path, config, changed, last_step=5)
    assert read_config(tmp_path, default_config()).batch_size == 16
    assert read_record(tmp_path) == changed | {"last step": 5}
    assert list((tmp_path / "best").iterdir()) == [tmp_path / "best" / "other"]
    (tmp_path / trace).mkdir(parents=True)
    with pytest.raises(ResumeError, match="batch_size: 16 -> 8"):
        register_run(tmp_path, default_config(), PRINTS)


def test_a_run_of_another_task_that_has_kept_nothing_is_replaced(tmp_path):
    write_atomically(tmp_path / "config.json", '{"task": "pretraining"}')
    register_run(tmp_path, default_config(), PRINTS)
    assert read_config(tmp_path, default_config()) == default_config()


def leave_trace(workdir, trace):
    if trace == "rows":
        (workdir / "metrics.jsonl").write_text('{"step": 0}\n{"step": 5}\n')
    else:
        (workdir / "checkpoints" / "7").mkdir(parents=True)


@pytest.mark.parametrize("lost", ["config.json", "run.json"])
@pytest.mark.parametrize("trace", ["rows", "checkpoint"])
def test_a_begun_run_that_has_lost_its_record_is_refused(tmp_path, lost, trace):
    register_run(tmp_path, default_config(), PRINTS)
    leave_trace(tmp_path, trace)
    (tmp_path / lost).unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ResumeError, match=rf"{lost}.* is gone\. Restore it from a backup, or"):
        register_run(tmp_path, default_config(), PRINTS)
    assert sorted(tmp_path.rglob("*")) == before


DAMAGED_RECORDS = ["", '{"training', "[]", '{"kept step": "7"}', '{"training images": 7}']


@pytest.mark.parametrize("content", DAMAGED_RECORDS)
def test_a_damaged_record_of_a_begun_run_is_refused_and_left_as_it_is(tmp_path, content):
    register_run(tmp_path, default_config(), PRINTS)
    leave_trace(tmp_path, "checkpoint")
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ResumeError, match=r"run\.json.* is damaged .*`echo '\{\}' > ") as refused:
        register_run(tmp_path, default_config(), PRINTS)
    assert (tmp_path / "run.json").read_text() == content
    # What it says to do works, and guards the configuration.
    command = str(refused.value).split("`")[1]
    subprocess.run(command, shell=True, check=True)
    with pytest.raises(ResumeError, match="batch_size: 8 -> 4"):
        register_run(tmp_path, with_batch(4), PRINTS)
    register_run(tmp_path, default_config(), PRINTS)
    assert read_record(tmp_path) == PRINTS | {"last step": 10}


@pytest.mark.parametrize("content", DAMAGED_RECORDS)
def test_a_damaged_record_of_a_run_without_a_step_is_written_anew(tmp_path, content, caplog):
    register_run(tmp_path, default_config(), PRINTS)
    (tmp_path / "run.json").write_text(content)
    register_run(tmp_path, default_config(), PRINTS)
    assert read_record(tmp_path) == PRINTS | {"last step": 10}
    assert "no step was saved yet, so it is replaced" in caplog.text


@pytest.mark.parametrize(
    "content", ['{"batch_size": "8"}', '{"data": 5}', '{"seed": null}', '{"seed": {"a": 1}}']
)
def test_a_configuration_of_wrong_types_is_an_error(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged \(.*restore it from a backup"):
        read_config(tmp_path, default_config())


def test_a_run_that_has_lost_its_checkpoints_is_not_started_over(tmp_path):
    register_run(tmp_path, default_config(), PRINTS)
    check_nothing_lost(tmp_path)
    note_kept_step(tmp_path, 7)
    # It is kept when the run is started again.
    register_run(tmp_path, default_config(), PRINTS)
    with pytest.raises(ResumeError, match=r"it had one of step 7.*another --workdir"):
        check_nothing_lost(tmp_path)


def test_a_record_that_has_been_removed_is_told_as_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(WriteError, match=r"cannot write .*run\.json"):
        note_kept_step(tmp_path / "gone", 7)
    assert not (tmp_path / "gone").exists()


def test_a_run_is_complete_when_its_last_step_is_kept(tmp_path):
    assert not is_complete(tmp_path)
    register_run(tmp_path, default_config(), PRINTS)
    assert not is_complete(tmp_path)
    note_kept_step(tmp_path, 9)
    assert not is_complete(tmp_path)
    note_kept_step(tmp_path, 10)
    assert is_complete(tmp_path)
    # It may have become longer.
    register_run(tmp_path, default_config(), PRINTS, last_step=11)
    assert not is_complete(tmp_path)
