"""Long runs: finite numbers, flat memory, nothing compiled anew.

SOAK_STEPS=2000 SOAK_IMAGES=FOLDER gives the long form (`make soak`); without, drawn scenes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from tests.commands import REPOSITORY, SMALL, command_environment

STEPS = int(os.environ.get("SOAK_STEPS", "60"))
WARM = max(STEPS // 10, 20)
"""Steps after which memory and compiled programs shall stay what they are."""
LARGEST_GROWTH = 1.05 if STEPS >= 1000 else 1.2
"""Of memory from there on; what a short run touches for the first time is more of it."""
SAVE_EVERY = WARM // 2
"""The first checkpoint compiles, too, what takes a state from the devices."""
BACKBONES = {
    "float32": {"backbone.name": "handcrafted"},
    "bfloat16": {
        "backbone.name": "vit_tiny8",
        "backbone.weights": "random",
        "backbone.dtype": "bfloat16",
    },
}

if "SOAK_STEPS" not in os.environ:
    del BACKBONES["bfloat16"]  # whose compilation would take most of the time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Photographs, and four pictures that show nothing."""
    folder = tmp_path_factory.mktemp("soak")
    if "SOAK_IMAGES" in os.environ:
        (folder / "photographs").symlink_to(Path(os.environ["SOAK_IMAGES"]).resolve())
    else:
        write_scenes(folder, 28, size=80, seed=1)
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    for name, value in {"black": 0, "white": 255, "constant": 90, "noise": noise}.items():
        pixels = np.broadcast_to(np.uint8(value), (80, 80, 3))
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{name}.png")
    return folder


def soak(workdir, images, backbone, steps):
    fields = {
        **SMALL,
        **BACKBONES[backbone],
        "data.train": str(images),
        "steps": steps,
        "checkpoint.every_steps": SAVE_EVERY,
    }
    request = workdir.with_suffix(".json")
    request.write_text(json.dumps({"workdir": str(workdir), "fields": fields}))
    environment = command_environment()
    if "SOAK_STEPS" in os.environ:
        environment["XLA_FLAGS"] = ""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak", request],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return json.loads(finished.stdout.splitlines()[-1]), metrics


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_long_run_stays_finite_flat_and_compiled(tmp_path, images, backbone):
    looks, metrics = soak(tmp_path / "run", images, backbone, STEPS)
    assert len(metrics) == STEPS
    assert all(np.isfinite(value) for row in metrics for value in row.values())
    warm = [(memory, compiled) for step, memory, compiled in looks if step >= WARM]
    memory, compiled = zip(*warm, strict=True)
    course = [round(value / 2**20) for value in memory[:: max(len(memory) // 10, 1)]]
    print(
        f"{backbone}: {STEPS} steps, all finite; memory {memory[0] / 2**20:.0f} MiB at step "
        f"{WARM}, {memory[-1] / 2**20:.0f} at the end, {course} between; "
        f"compiled {compiled[-1] - compiled[0]} times"
    )
    assert memory[-1] <= LARGEST_GROWTH * memory[0]
    assert compiled[-1] == compiled[0]
