"""What a training learns in bfloat16: as much as in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sempart_jax.models.head import SegmentationHead
from sempart_jax.models.segmenter import Segmenter
from sempart_jax.models.vit import VisionTransformer
from sempart_jax.objectives.base import Examples
from sempart_jax.objectives.sempart import SempartObjective
from sempart_jax.train_step import (
    DEVICE_AXIS,
    create_train_state,
    make_train_step,
    replicate,
    shard,
)

STEPS = 100
SIDE = 16
# High enough to leave the plateau of the N-cut, 1, and falling, so that what is left at the end is
# the optimum and not the last steps' wandering.
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(2e-3, STEPS))
# The lower edge of each object is like both object and ground: its keys have a cosine of 0.6 to 0.8
# with theirs, which have one of 0.2 with each other. So the best cut is no free one, no cosine is
# near the threshold of 0.4, where rounding would decide, and one optimum is far better than the
# others. Where several are alike, rounding decides which one is found on the way down: with edges
# of all sizes the loss after 100 steps, 0.66 in float32, was 0.54 in bfloat16.
GROUND, OBJECT, EDGE = 255 * np.array([[0.83, 0.7, 0.5], [0.78, 0.1, 0.63], [0.71, 0.36, 0.79]])


def make_backbone(dtype=jnp.float32):
    return VisionTransformer(
        patch_size=2, width=32, depth=1, num_heads=2, dtype=dtype, trained_grid=SIDE // 2
    )


def make_segmenter(backbone_dtype=jnp.float32, head_dtype=jnp.float32):
    head = SegmentationHead(patch_size=2, axis_name=DEVICE_AXIS, dtype=head_dtype)
    return Segmenter(make_backbone(backbone_dtype), head, radius=2)


def draw_scenes(count):
    rng = np.random.default_rng(0)
    scenes = np.tile(GROUND, (count, SIDE, SIDE, 1))
    for scene in scenes:
        row, column = 2 * rng.integers(0, 5, 2)
        scene[row : row + 8, column : column + 8] = OBJECT
        scene[row + 6 : row + 8, column : column + 8] = EDGE
    return np.clip(scenes + rng.normal(0, 3, scenes.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def start():
    """Parameters of the backbone, the state of step 0, and scenes."""
    image = jnp.zeros((1, SIDE, SIDE, 3))
    backbone_params = jax.jit(make_backbone().init)(jax.random.key(0), image)["params"]
    variables = make_segmenter().init(jax.random.key(1), backbone_params, SIDE)
    return backbone_params, create_train_state(variables, OPTIMIZER), draw_scenes(2)


def make_step(segmenter):
    return make_train_step(
        segmenter,
        SempartObjective(crop_fraction=None),
        OPTIMIZER,
        seed=0,
        augmentation=None,
        devices=jax.local_devices()[:1],
    )


def curve(step, start):
    """Return the total of each of 100 steps."""
    backbone_params, state, scenes = start
    state, frozen = replicate((state, backbone_params), jax.local_devices()[:1])
    totals = []
    for _ in range(STEPS):
        state, metrics = step(state, frozen, shard(Examples(scenes), 1))
        totals.append(metrics["total"])
    return np.array([float(total[0]) for total in totals])


@pytest.fixture(scope="module")
def whole_step():
    return make_step(make_segmenter())


@pytest.fixture(scope="module")
def whole(whole_step, start):
    return curve(whole_step, start)


def difference(totals, expected):
    """Of the means of the last ten steps, as a part of the expected one."""
    return abs(totals[-10:].mean() / expected[-10:].mean() - 1)


@pytest.mark.slow
def test_float32_leaves_the_plateau(whole):
    assert whole[:5].min() > 0.99
    assert whole[-10:].max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("head_dtype", [jnp.float32, jnp.bfloat16])
def test_loss_after_100_steps_is_within_a_hundredth_of_float32(start, whole, head_dtype):
    totals = curve(make_step(make_segmenter(jnp.bfloat16, head_dtype)), start)
    # 0.0002 and 0.0001 when this was written.
    assert difference(totals, whole) < 0.01
    # Another computation has come there.
    assert not np.array_equal(totals, whole)
