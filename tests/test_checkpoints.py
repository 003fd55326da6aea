"""Checkpoints, and the record of a run that guards its resumption."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sempart_jax.checkpoints import (
    Checkpoints,
    ResumeError,
    fingerprint_params,
    read_config,
    register_run,
)
from sempart_jax.default_config import default_config
from sempart_jax.train_step import create_train_state

PRINTS = {"training images": "aaaa", "backbone weights": "bbbb"}


def make_state(step=0, value=0.0):
    variables = {
        "params": {"layer": {"kernel": jnp.full((2, 3), value), "bias": jnp.arange(3.0)}},
        "batch_stats": {"norm": {"mean": jnp.full((3,), value / 3)}},
    }
    state = create_train_state(variables, optax.adamw(1e-3))
    return state.replace(step=jnp.asarray(step, jnp.int32))


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


def test_nothing_to_restore_is_an_error_that_names_the_place(tmp_path):
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path}"),
    ):
        checkpoints.restore(make_state())


def test_a_run_is_registered_and_read_back(tmp_path):
    config = default_config()
    config.batch_size = 4
    register_run(tmp_path / "run", config, PRINTS)
    assert read_config(tmp_path / "run") == config
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == PRINTS
    assert not list((tmp_path / "run").glob(".*"))


def test_resuming_the_same_run_is_allowed_and_may_extend_it(tmp_path):
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    config.steps = 40
    config.data.workers = 2
    config.data.train = "elsewhere"
    register_run(tmp_path, config, PRINTS)
    assert read_config(tmp_path).steps == 40


def test_a_changed_config_is_refused_and_named(tmp_path):
    config = default_config()
    register_run(tmp_path, config, PRINTS)
    config.batch_size = 16
    config.loss.weights.ncut_crop = 0.5
    with pytest.raises(ResumeError) as caught:
        register_run(tmp_path, config, PRINTS)
    assert "batch_size: 8 -> 16" in str(caught.value)
    assert "loss.weights.ncut_crop: 0.01 -> 0.5" in str(caught.value)
    assert read_config(tmp_path).batch_size == 8


@pytest.mark.parametrize("name", list(PRINTS))
def test_other_images_or_weights_are_refused(tmp_path, name):
    register_run(tmp_path, default_config(), PRINTS)
    with pytest.raises(ResumeError, match=name):
        register_run(tmp_path, default_config(), PRINTS | {name: "cccc"})


def test_reading_no_run_or_a_damaged_one_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": 0,')
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        read_config(tmp_path)


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
