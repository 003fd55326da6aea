"""Several processes of one run on this machine, on CPU devices."""

import json
import re
import signal
import socket
import time

import jax
import numpy as np
import pytest

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.predict.network_step import NetworkStep
from sempart_jax.runs.default_config import default_config
from sempart_jax.train import train
from sempart_jax.training import distributed
from sempart_jax.training.loop import check_devices
from sempart_jax.two_tricks.train_step import replicate
from tests.process_groups import Group, free_port, run_training_group
from tests.test_train import read_metrics, read_parameters
from tests.two_tricks.small_network import NETWORK, seeded_variables

A_MINUTE = 60
STEPS = 12

# Like plain gradient descent: AdamW's first steps are the signs of gradients, which are free where
# these are rounding.
SMOOTH_OPTIMIZER = {"optimizer__eps": 1.0, "optimizer__learning_rate": 0.1}


def wait_until(condition, group, seconds=400):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, group.everything()
        assert all(process.poll() is None for process in group.processes), group.everything()
        time.sleep(0.02)


def newest_step(checkpoints):
    return max(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())


def training_rows(workdir):
    rows = [row for row in read_metrics(workdir) if "train/total" in row]
    return [{k: v for k, v in row.items() if k != "train/images_per_second"} for row in rows]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 11, size=40, seed=3)
    (folder / "images" / "scene_0010.png").write_bytes(b"no image")
    return folder


def run_steps(workdir, scenes, *, steps=STEPS, **fields):
    return run_training_group(
        workdir,
        scenes / "images",
        batch_size=8,
        steps=steps,
        checkpoint__every_steps=2,
        checkpoint__keep=10,
        **SMOOTH_OPTIMIZER,
        **fields,
    )


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, scenes):
    """Two processes of two devices each, undisturbed; their directory and output."""
    workdir = tmp_path_factory.mktemp("two")
    with run_steps(
        workdir,
        scenes,
        validation__images=scenes / "images",
        validation__masks=scenes / "masks",
    ) as group:
        assert group.wait() == [0, 0], group.everything()
        return workdir, [group.said(0), group.said(1)]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(two_processes, tmp_path, scenes):
    """In the first steps: what is rounding there grows from step to step."""
    with run_steps(tmp_path, scenes, steps=2, processes=1, devices=4) as group:
        assert group.wait() == [0], group.everything()
    rows, expected_rows = training_rows(two_processes[0]), training_rows(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row, expected in zip(rows[:2], expected_rows, strict=True):
        for name, value in expected.items():
            # The norm is dominated by few gradients whose sums are long: looser than the losses.
            rtol = 5e-3 if row["step"] == 2 else 1e-3 if name == "train/grad_norm" else 1e-4
            np.testing.assert_allclose(row[name], value, rtol=rtol, atol=1e-7, err_msg=name)
    ours, expected = read_parameters(two_processes[0], 2), read_parameters(tmp_path, 2)
    later = read_parameters(two_processes[0], 4)
    for name in ("params", "batch_stats"):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4),
            ours[name],
            expected[name],
        )
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), ours["params"], later["params"])
    assert max(jax.tree.leaves(moved)) > 1e-3


@pytest.mark.slow
def test_one_process_alone_writes_and_the_other_speaks_where_only_it_knows(two_processes):
    workdir, said = two_processes
    assert "on 4 x cpu in 2 processes" in said[0]
    assert f"step {STEPS}, validation IoU" in said[0]
    assert "run directory: " in said[0]
    for word in ("image/s", "validation", "run directory: ", f"steps 0 to {STEPS}"):
        assert word not in said[1]
    skipped = [re.findall(r"(process 1: )?skipped \S*scene_0010", text) for text in said]
    assert len(skipped[0]) + len(skipped[1]) >= 1
    assert set(skipped[0]) <= {""}
    assert set(skipped[1]) <= {"process 1: "}
    assert [row["step"] for row in read_metrics(workdir) if "validation/iou fine" in row] == [
        0,
        STEPS,
    ]
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    assert json.loads((workdir / "config.json").read_text())["distributed"] is True


@pytest.mark.slow
def test_a_run_whose_processes_died_ends_bit_for_bit_like_an_undisturbed_one(
    two_processes, tmp_path, scenes
):
    """The first is killed, which holds the others together; then the second is told to end."""
    checkpoints = tmp_path / "checkpoints"
    with run_steps(tmp_path, scenes) as group:
        wait_until(lambda: (checkpoints / "2").exists(), group)
        group.processes[0].kill()
        assert group.processes[1].wait(A_MINUTE) != 0
        assert not (checkpoints / str(STEPS)).exists()
    # As before the end of a job's time, here of one process alone.
    with run_steps(tmp_path, scenes) as group:
        before = newest_step(checkpoints)
        wait_until(lambda: newest_step(checkpoints) > before, group)
        group.processes[1].terminate()
        assert group.wait(A_MINUTE) == [0, 0], group.everything()
        kept = [re.search(r"stopped: saved step (\d+)", group.said(i))[1] for i in range(2)]
        assert kept[0] == kept[1]
        assert newest_step(checkpoints) == int(kept[0])
        assert "Traceback" not in group.everything()
    with run_steps(tmp_path, scenes) as group:
        assert group.wait() == [0, 0], group.everything()
        assert f"steps {kept[0]} to {STEPS}" in group.said(0)
    ours, expected = read_parameters(tmp_path, STEPS), read_parameters(two_processes[0], STEPS)
    assert set(ours) == set(expected) == {"step", "params", "batch_stats", "opt_state"}
    for name in expected:
        jax.tree.map(np.testing.assert_array_equal, ours[name], expected[name])
    assert training_rows(tmp_path) == training_rows(two_processes[0])


@pytest.mark.slow
def test_processes_that_are_given_different_things_are_refused(tmp_path, scenes):
    others = tmp_path / "others"
    write_scenes(others, 3, size=40, seed=3)
    with run_steps(
        tmp_path / "run",
        scenes,
        own_fields=[{}, {"data.train": others / "images", "loss.tau": 0.25, "data.workers": 1}],
    ) as group:
        assert group.wait() == [1, 1], group.everything()
        for index in range(2):
            said = group.said(index)
            assert "config.loss.tau: 0.4 in process 0, 0.25 in process 1" in said
            assert re.search(r"training images: '\w+' in process 0, '\w+' in process 1", said)
            assert "workers" not in said
            assert "config.data.train" not in said
            assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_batch_must_divide_among_the_devices_of_all_processes(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 16)
    config = default_config()
    config.batch_size = 8
    with pytest.raises(ValueError, match="multiple of the number of devices, 16, got 8"):
        check_devices(config)


def start_workers(name, folder, environments, devices=1):
    commands = [["-m", "tests.distributed_worker", name, folder] for _ in environments]
    return Group(commands, devices=devices, environments=environments)


def explicit(count):
    address = f"127.0.0.1:{free_port()}"
    return [
        {"TEST_COORDINATOR": address, "TEST_COUNT": str(count), "TEST_INDEX": str(index)}
        for index in range(count)
    ]


def as_slurm_starts(count):
    return [
        {
            "SLURM_JOB_ID": "4711",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index),
            "JAX_COORDINATOR_PORT": port,
        }
        for port in [str(free_port())]
        for index in range(count)
    ]


def as_open_mpi_starts(count):
    return [
        {
            "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
            "OMPI_COMM_WORLD_SIZE": str(count),
            "OMPI_COMM_WORLD_RANK": str(index),
            "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
            "JAX_COORDINATOR_PORT": port,
        }
        for port in [str(free_port())]
        for index in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [as_slurm_starts, as_open_mpi_starts])
def test_processes_find_each_other_by_what_their_launcher_says(tmp_path, launcher):
    with start_workers("meet", tmp_path, launcher(2), devices=2) as group:
        assert group.wait() == [0, 0], group.everything()
    for index in range(2):
        assert json.loads((tmp_path / f"passed {index}").read_text()) == [2, 4]


@pytest.mark.slow
def test_processes_exchange_arrays_and_read_and_write_alone(tmp_path):
    with start_workers("exchange", tmp_path, explicit(3), devices=2) as group:
        assert group.wait() == [0, 0, 0], group.everything()
        assert "error" not in group.everything()
    for index in range(3):
        assert json.loads((tmp_path / f"passed {index}").read_text()) == [3, 6]
        assert (tmp_path / f"disagreement {index}").read_text().splitlines()[1:-1] == [
            "  field: 4 in processes 0, 1, 8 in process 2",
            "  images: 'list 0' in process 0, 'list 1' in processes 1, 2",
            "  newer: absent in processes 0, 1, None in process 2",
        ]
    params, variables = seeded_variables()
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), np.uint8)
    masks = NetworkStep(NETWORK, replicate(params)).start(replicate(variables), images, 4)()
    np.testing.assert_allclose(np.load(tmp_path / "fine.npy"), masks["fine"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("silent", [0, 1])
def test_a_process_that_falls_silent_ends_the_others_within_a_minute(tmp_path, silent):
    """As where a machine loses its network: no connection breaks."""
    with start_workers("step_for_ever", tmp_path, explicit(2)) as group:
        wait_until(lambda: len(list(tmp_path.glob("stepping *"))) == 2, group)
        ends = time.monotonic() + A_MINUTE
        while group.processes[1 - silent].poll() is None:
            # Again and again, so that nothing from outside wakes it.
            group.processes[silent].send_signal(signal.SIGSTOP)
            assert time.monotonic() < ends, group.everything()
            time.sleep(0.1)
        assert group.processes[1 - silent].returncode != 0


@pytest.mark.slow
def test_an_error_in_one_process_is_told_there_and_ends_the_others(tmp_path):
    with start_workers("fail_alone", tmp_path, explicit(2)) as group:
        assert group.processes[1].wait(A_MINUTE) == 1
        assert group.processes[0].wait(A_MINUTE) != 0
        assert "error: process 1 of 2: only this one is wrong\n" in group.said(1)
        assert "Traceback" not in group.said(1)


def test_without_a_launcher_or_a_coordinator_the_error_says_what_to_give(tmp_path):
    with start_workers("step_for_ever", tmp_path, [{}]) as group:
        assert group.wait(A_MINUTE) == [1]
        assert "ValueError: no launcher of several processes was detected" in group.said(0)
        assert "config.coordinator_address=HOST:PORT" in group.said(0)
        assert "has not found the other processes" not in group.said(0)


def test_an_address_that_cannot_be_used_is_told_as_the_processes_not_finding_each_other(
    monkeypatch,
):
    def fail(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("UNKNOWN: Failed to start RPC server")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    message = r"has not found the other .* its port is free .*Failed to start RPC server"
    with pytest.raises(ValueError, match=message), distributed.joined():
        pass


def test_training_alone_in_a_run_of_several_is_refused(tmp_path):
    config = default_config()
    config.distributed = True
    with pytest.raises(
        ValueError, match=r"joined: train within sempart_jax\.training\.distributed"
    ):
        train(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_process_agrees_with_itself_and_keeps_its_state():
    distributed.check_agreement({"a": 1})
    tree = {"a": np.array([-0.0])}
    assert distributed.broadcast_from_writer(tree) is tree
    assert distributed.is_writer()


def test_an_occupied_port_is_a_clear_error():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as occupant:
        address = f"127.0.0.1:{occupant.getsockname()[1]}"
        message = f"process 0 cannot listen at {address}: .*in use.*Choose a free port"
        with pytest.raises(ValueError, match=message), distributed.joined(address, 1, 0):
            pass
    distributed._check_port(address)
