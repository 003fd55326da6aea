"""What each of several processes does in ``test_distributed.py``: ``python -m ... NAME FOLDER``."""

import json
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from sempart_jax.predict.network_step import NetworkStep
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.training import distributed
from sempart_jax.two_tricks.train_step import DEVICE_AXIS, create_train_state, replicate
from tests.two_tricks.small_network import NETWORK, seeded_variables


def meet(folder):
    """Tell how many others there are."""
    counts = [jax.process_count(), jax.device_count()]
    (folder / f"passed {jax.process_index()}").write_text(json.dumps(counts))


def exchange(folder):
    """Broadcast, compare, checkpoint and predict; writes what came of it."""
    process = jax.process_index()
    sent = {
        "signed zero": np.array([0.0, -0.0], np.float32),
        "not a number": np.array([0x7FC01234], np.uint32).view(np.float32),
        "integers": np.array([[-1, 2], [3, -(2**31)]], np.int32),
        "truths": np.array([True, False]),
        "scalar": np.array(-7, np.int32),
        "half": np.arange(3).astype(jnp.bfloat16),
        "nothing": np.zeros((0, 2), np.float32),
    }
    given = sent if process == 0 else jax.tree.map(np.zeros_like, sent)
    received = distributed.broadcast_from_writer(given)
    for name, array in sent.items():
        assert received[name].dtype == array.dtype, name
        assert received[name].shape == array.shape, name
        assert received[name].tobytes() == array.tobytes(), name

    distributed.check_agreement({"same": 1.5, "also the same": "größer"})
    unlike = {"same": 1, "field": [4, 4, 8][process], "images": f"list {min(process, 1)}"}
    if process == 2:
        unlike["newer"] = None
    try:
        distributed.check_agreement(unlike)
    except ValueError as error:
        (folder / f"disagreement {process}").write_text(str(error))

    state = create_train_state(
        {"params": {"a": jnp.full((2, 3), 1 / 3)}, "batch_stats": {}}, optax.sgd(1.0)
    )
    if distributed.is_writer():
        # The others are in the barrier below: nothing here may wait for them.
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(state)
        params, variables = seeded_variables()
        images = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), np.uint8)
        masks = NetworkStep(NETWORK, replicate(params)).start(replicate(variables), images, 4)()
        np.save(folder / "fine.npy", masks["fine"])
    jax.experimental.multihost_utils.sync_global_devices("written")
    if not distributed.is_writer():
        # Each reads by itself as well.
        time.sleep(0.3 * process)
        with Checkpoints(folder) as checkpoints:
            restored = checkpoints.restore(jax.tree.map(np.zeros_like, jax.device_get(state)))
            _, fields = checkpoints.restore_fields({"params": state.params})
        for params in (restored.params, fields["params"]):
            np.testing.assert_array_equal(params["a"], state.params["a"])
    meet(folder)


def step_for_ever(folder):
    """Exchange numbers until the others are lost."""
    step = jax.pmap(lambda x: lax.psum(x, DEVICE_AXIS), axis_name=DEVICE_AXIS)
    ones = np.ones(jax.local_device_count(), np.float32)
    while True:
        jax.block_until_ready(step(ones))
        (folder / f"stepping {jax.process_index()}").touch()


def fail_alone(folder):
    """Fail in the second process alone."""
    if jax.process_index() == 1:
        raise ValueError("only this one is wrong")
    step_for_ever(folder)


if __name__ == "__main__":
    address = os.environ.get("TEST_COORDINATOR", "")
    count = int(os.environ.get("TEST_COUNT", 0))
    index = int(os.environ.get("TEST_INDEX", -1))
    with distributed.joined(address, count, index):
        globals()[sys.argv[1]](Path(sys.argv[2]))
