"""Checkpoints: whole, chosen, and found out when damaged."""

import json
import shutil
from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from sempart_jax.host.errors import WriteError
from sempart_jax.kernels.tensor_tree import fingerprint_params
from sempart_jax.runs import checkpoints as checkpoints_module
from sempart_jax.runs.checkpoints import Checkpoints, DamagedCheckpointError
from sempart_jax.two_tricks.train_step import AveragedTrainState, create_train_state


def make_state(step=0, value=0.0):
    variables = {
        "params": {"layer": {"kernel": jnp.full((2, 3), value), "bias": jnp.arange(3.0)}},
        "batch_stats": {"norm": {"mean": jnp.full((3,), value / 3)}},
    }
    state = create_train_state(variables, optax.adamw(1e-3))
    return state.replace(step=jnp.asarray(step, jnp.int32))


PARTS = {"params", "batch_stats"}


def shapes_of(state):
    return jax.eval_shape(lambda: {name: getattr(state, name) for name in PARTS})


def parts_of(step, value=None):
    state = make_state(step, step / 7 if value is None else value)
    return {name: getattr(state, name) for name in PARTS}


# Reading what is damaged ends before all that it has begun has ended.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def assert_same(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_a_state_comes_back_bit_for_bit(tmp_path):
    state = make_state(5, value=1 / 3)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None
        checkpoints.save(state)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 5
        restored = checkpoints.restore(make_state())
    assert_same(restored, state)
    assert type(restored.opt_state[0]) is type(state.opt_state[0])


def test_an_average_comes_back_with_its_state(tmp_path):
    state = make_state(5, value=1 / 3)
    averaged = AveragedTrainState(**vars(state), average=make_state(5, value=1 / 7).variables)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(averaged)
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(averaged), averaged)
        _, fields = checkpoints.restore_fields({"average": averaged.average})
    assert_same(fields["average"], averaged.average)


def test_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(make_state(step, value=float(step)))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert_same(checkpoints.restore(make_state()), make_state(4, 4.0))
        assert_same(checkpoints.restore(make_state(), step=3), make_state(3, 3.0))
        with pytest.raises(FileNotFoundError, match="no checkpoint of step 2"):
            checkpoints.restore(make_state(), step=2)


@pytest.mark.parametrize("keep", [1, 2])
def test_the_best_is_kept_and_restored(tmp_path, keep):
    """With two kept, the newest of them is not the best."""
    with Checkpoints(tmp_path, name="best", keep=keep, best=True) as checkpoints:
        for step, score in ((1, 0.3), (2, 0.8), (3, 0.5)):
            checkpoints.save(make_state(step, value=float(step)), score=score)
    with Checkpoints(tmp_path, name="best", keep=keep, best=True) as checkpoints:
        assert_same(checkpoints.restore(make_state()), make_state(2, 2.0))


def test_saving_a_step_twice_writes_it_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1, value=1.0))
        checkpoints.save(make_state(1, value=2.0))
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(make_state()), make_state(1, 1.0))


def test_an_unfinished_checkpoint_is_passed_over(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "half").write_text("cut off")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 1
    assert not unfinished.exists()


def test_nothing_to_restore_is_an_error_that_names_the_place(tmp_path):
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path}"),
    ):
        checkpoints.restore(make_state())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run's directory with checkpoints of the steps 1, 2 and 3."""
    workdir = tmp_path_factory.mktemp("saved")
    with Checkpoints(workdir) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step, value=step / 7))
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def stored_file(checkpoint, kind):
    """The description of a checkpoint, the names of its arrays, or where these are."""
    names = {
        "description": "_CHECKPOINT_METADATA",
        "names": "default/_METADATA",
        "places": "default/manifest.ocdbt",
    }
    return checkpoint / names[kind]


def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(b"")


def flip_bits(checkpoint, rng):
    """Flip a bit in one of the files of a checkpoint that hold arrays."""
    path = rng.choice(sorted(checkpoint.rglob("d/*")))
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "truncated", "empty"])
@pytest.mark.parametrize("kind", ["description", "names", "places"])
def test_a_file_that_is_cut_off_or_missing_is_found_out(workdir, kind, how, caplog):
    damage(stored_file(workdir / "checkpoints" / "3", kind), how)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        with pytest.raises(DamagedCheckpointError, match=r"checkpoints/3 is damaged: \S"):
            checkpoints.restore(make_state())
        assert_same(checkpoints.restore(make_state(), step=2), make_state(2, 2 / 7))
    with Checkpoints(workdir) as checkpoints:
        assert_same(checkpoints.resume(make_state()), make_state(2, 2 / 7))
    assert "checkpoints/3 is damaged" in caplog.text
    assert "continuing from step 2" in caplog.text


def test_no_file_may_be_missing_whatever_it_is(workdir):
    """Each file of a checkpoint in its turn: the state is the same, or the damage is found out."""
    checkpoint = workdir / "checkpoints" / "3"
    found_out = 0
    for path in [path for path in checkpoint.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        path.unlink()
        with Checkpoints(workdir, read_only=True) as checkpoints:
            try:
                assert_same(checkpoints.restore(make_state()), make_state(3, 3 / 7))
            except DamagedCheckpointError:
                found_out += 1
        path.write_bytes(content)
    assert found_out >= 4


def test_flipped_bits_are_found_out_or_do_no_harm(tmp_path):
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    state, like = (make_state(3).replace(params={"a": array}) for array in (values, 0 * values))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
    checkpoint = tmp_path / "checkpoints" / "3"
    whole = shutil.copytree(checkpoint, tmp_path / "whole")
    for seed in range(20):
        shutil.rmtree(checkpoint)
        shutil.copytree(whole, checkpoint)
        flip_bits(checkpoint, np.random.default_rng(seed))
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            with suppress(DamagedCheckpointError):
                assert_same(checkpoints.restore(like), state)
            with suppress(DamagedCheckpointError):
                _, fields = checkpoints.restore_fields({"params": like.params})
                assert_same(fields["params"], state.params)


def test_whole_files_with_other_numbers_are_found_out(tmp_path):
    """As a flipped bit may leave them: neither orbax nor its format notices."""
    for name, value in {"run": 0.5, "other": 0.25}.items():
        with Checkpoints(tmp_path / name) as checkpoints:
            checkpoints.save(make_state(3, value))
    arrays = tmp_path / "run" / "checkpoints" / "3" / "default"
    shutil.rmtree(arrays)
    shutil.copytree(tmp_path / "other" / "checkpoints" / "3" / "default", arrays)
    with (
        Checkpoints(tmp_path / "run", read_only=True) as checkpoints,
        pytest.raises(DamagedCheckpointError, match="contents have changed since it was saved"),
    ):
        checkpoints.restore(make_state())


def test_what_is_damaged_is_set_aside_and_its_step_is_written_again(workdir):
    for step in (2, 3):
        damage(stored_file(workdir / "checkpoints" / str(step), "names"), "truncated")
    with Checkpoints(workdir, keep=2) as checkpoints:
        assert int(checkpoints.resume(make_state()).step) == 1
        for step in (2, 3):
            checkpoints.save(make_state(step, value=float(step)))
            checkpoints.wait()
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert names == ["2", "2.damaged", "3", "3.damaged"]
    damage(stored_file(workdir / "checkpoints" / "3", "names"), "truncated")
    with Checkpoints(workdir, keep=2) as checkpoints:
        assert_same(checkpoints.resume(make_state()), make_state(2, 2.0))
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert names == ["2", "2.damaged", "3.damaged", "3.damaged2"]


def test_where_all_are_damaged_all_are_named_and_none_is_touched(workdir):
    for step in (1, 2, 3):
        damage(stored_file(workdir / "checkpoints" / str(step), "names"), "truncated")
    with Checkpoints(workdir) as checkpoints:
        with pytest.raises(DamagedCheckpointError, match="can be read") as caught:
            checkpoints.resume(make_state())
        assert checkpoints.latest_step == 3
    for step in (1, 2, 3):
        assert f"checkpoints/{step} is damaged" in str(caught.value)
    assert "another --workdir" in str(caught.value)


def test_a_checkpoint_from_before_there_were_fingerprints_is_read(workdir):
    description = stored_file(workdir / "checkpoints" / "3", "description")
    fields = json.loads(description.read_text())
    assert fields["custom_metadata"]["fingerprints"].keys() == PARTS | {"step", "opt_state"}
    description.write_text(json.dumps(fields | {"custom_metadata": {}}))
    with Checkpoints(workdir) as checkpoints:
        assert_same(checkpoints.restore_fields(shapes_of(make_state()))[1], parts_of(3))
        assert_same(checkpoints.resume(make_state()), make_state(3, 3 / 7))


@pytest.mark.parametrize("best", [False, True])
def test_what_orbax_own_manager_has_kept_is_read(tmp_path, best):
    """As older runs have it: the score is in a file of its own."""
    options = ocp.CheckpointManagerOptions(best_fn=(lambda m: m["score"]) if best else None)
    with ocp.CheckpointManager(
        tmp_path / "checkpoints", item_handlers=ocp.StandardCheckpointHandler(), options=options
    ) as manager:
        for step, score in ((1, 0.3), (2, 0.8), (3, 0.5)):
            state = jax.device_get(make_state(step, step / 7))
            manager.save(
                step,
                args=ocp.args.StandardSave(state),
                metrics={"score": score} if best else None,
                custom_metadata={"fingerprint": fingerprint_params(state)},
            )
    with Checkpoints(tmp_path, best=best, keep=2) as checkpoints:
        expected = 2 if best else 3
        assert_same(checkpoints.restore(make_state()), make_state(expected, expected / 7))
        assert_same(checkpoints.restore_fields(shapes_of(make_state()))[1], parts_of(expected))
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == ["2", "3"]


def test_fields_are_read_by_themselves(workdir):
    """Whatever is wrong with the others, which are the optimizer's."""
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step, fields = checkpoints.restore_fields(shapes_of(make_state()))
        assert step == 3
        assert_same(fields, parts_of(3))
        assert_same(checkpoints.restore_fields(shapes_of(make_state()), 2), (2, parts_of(2)))
        with pytest.raises(FileNotFoundError, match="no checkpoint of step 7"):
            checkpoints.restore_fields(shapes_of(make_state()), 7)
        for wrong in ({"other": np.zeros((2, 3))}, {"kernel": np.zeros(3), "bias": np.zeros(3)}):
            with pytest.raises(DamagedCheckpointError, match="do not match the network"):
                checkpoints.restore_fields({"params": {"layer": wrong}})


@pytest.mark.parametrize(("changed", "found"), [("params", True), ("opt_state", False)])
def test_other_numbers_are_found_out_in_the_fields_that_are_read(tmp_path, changed, found):
    state = make_state(3, 0.5)
    other = make_state(3, 0.25) if changed == "params" else state.replace(opt_state=(np.ones(2),))
    for name, each in {"run": state, "other": other}.items():
        with Checkpoints(tmp_path / name) as checkpoints:
            checkpoints.save(each)
    arrays = tmp_path / "run" / "checkpoints" / "3" / "default"
    shutil.rmtree(arrays)
    shutil.copytree(tmp_path / "other" / "checkpoints" / "3" / "default", arrays)
    with Checkpoints(tmp_path / "run", read_only=True) as checkpoints:
        if found:
            with pytest.raises(
                DamagedCheckpointError, match="contents have changed since it was saved"
            ):
                checkpoints.restore_fields(shapes_of(state))
        else:
            assert_same(checkpoints.restore_fields(shapes_of(state))[1], parts_of(3, 0.5))


def test_resuming_where_there_is_nothing_gives_nothing(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.resume(make_state()) is None


@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_a_best_checkpoint_that_has_lost_its_score_is_an_error(tmp_path, how, caplog):
    with Checkpoints(tmp_path, name="best", keep=2, best=True) as checkpoints:
        for step, score in ((1, 0.3), (2, 0.8)):
            checkpoints.save(make_state(step), score=score)
    damage(stored_file(tmp_path / "best" / "2", "description"), how)
    with (
        Checkpoints(tmp_path, name="best", best=True, read_only=True) as checkpoints,
        pytest.raises(DamagedCheckpointError, match="has lost its score"),
    ):
        checkpoints.restore(make_state())
    # A training goes on, and its best is compared with the others.
    with Checkpoints(tmp_path, name="best", best=True) as checkpoints:
        assert int(checkpoints.restore(make_state()).step) == 1
    assert "has lost its score" in caplog.text
    assert (tmp_path / "best" / "2.damaged").is_dir()


@pytest.mark.parametrize(
    "content", ["[]", "5", '{"custom_metadata": []}', '{"metrics": 5}', '{"custom_metadata": 1']
)
def test_a_description_of_another_kind_is_set_aside(workdir, content, caplog):
    newest = workdir / "checkpoints" / "3"
    stored_file(newest, "description").write_text(content)
    with (
        Checkpoints(workdir, read_only=True) as checkpoints,
        pytest.raises(DamagedCheckpointError, match=rf"{newest} is damaged: \S"),
    ):
        checkpoints.restore(make_state())
    with Checkpoints(workdir) as checkpoints:
        assert_same(checkpoints.resume(make_state()), make_state(2, 2 / 7))
    assert f"Renamed to {newest}.damaged" in caplog.text
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert names == ["1", "2", "3.damaged"]


def test_what_is_half_removed_is_no_checkpoint(workdir, monkeypatch):
    monkeypatch.setattr(checkpoints_module.shutil, "rmtree", lambda path: None)
    with Checkpoints(workdir, keep=1):
        pass
    monkeypatch.undo()
    assert len(list((workdir / "checkpoints").iterdir())) == 3
    with Checkpoints(workdir) as checkpoints:
        assert_same(checkpoints.resume(make_state()), make_state(3, 3 / 7))
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["3"]


def test_reading_touches_nothing(workdir, tmp_path):
    (workdir / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir()
    before = sorted(path.relative_to(workdir) for path in workdir.rglob("*"))
    with Checkpoints(workdir, read_only=True) as checkpoints:
        assert int(checkpoints.restore(make_state()).step) == 3
    with Checkpoints(workdir, name="best", best=True, read_only=True) as best:
        assert best.latest_step is None
        with pytest.raises(FileNotFoundError, match="no checkpoint in"):
            best.restore(make_state())
    assert sorted(path.relative_to(workdir) for path in workdir.rglob("*")) == before


def test_a_directory_that_has_been_removed_is_an_error_and_not_made_again(workdir):
    with Checkpoints(workdir) as checkpoints:
        shutil.rmtree(workdir)
        with pytest.raises(WriteError, match="checkpoints: the directory has been removed"):
            checkpoints.save(make_state(4))
    assert not workdir.exists()


def test_fingerprint_sees_names_shapes_types_and_values():
    tree = {"a": np.zeros((2, 3), np.float32)}
    variants = [
        tree,
        {"b": tree["a"]},
        {"a": tree["a"].T},
        {"a": tree["a"].astype(np.float64)},
        {"a": tree["a"] + 1},
    ]
    assert len({fingerprint_params(variant) for variant in variants}) == len(variants)
    assert fingerprint_params(tree) == fingerprint_params({"a": jnp.zeros((2, 3))})
