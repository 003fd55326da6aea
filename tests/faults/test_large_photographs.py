"""The memory of an evaluation does not grow with the number of large photographs."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.faults.peak_memory import needs_linux, run_measured

pytestmark = [
    needs_linux,
    pytest.mark.slow,
    pytest.mark.skipif("HOSTILE_LONG" not in os.environ, reason="see `make hostile`"),
]

MORE_MEGABYTES = 500
"""All images of a part in memory took 170 MB for each of twelve megapixels."""


def write_photographs(root, count):
    rng = np.random.default_rng(0)
    for folder in ("images", "ground_truth_mask"):
        (root / "ECSSD" / folder).mkdir(parents=True)
    mask = np.zeros((3000, 4000), np.uint8)
    mask[800:2000, 1000:2500] = 255
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
        photograph = coarse.resize((4000, 3000), Image.Resampling.BICUBIC)
        photograph.save(root / f"ECSSD/images/{number:02d}.jpg", quality=85)
        Image.fromarray(mask).save(root / f"ECSSD/ground_truth_mask/{number:02d}.png")


def test_memory_of_an_evaluation_is_that_of_a_few_photographs(tmp_path):
    peaks = []
    for count in (4, 24):
        write_photographs(tmp_path / str(count), count)
        measured = run_measured(
            "evaluate",
            *("--method=tokencut", "--backbone=handcrafted", "--datasets=ecssd"),
            *("--protocols=native", "--postprocessings=none"),
            *("--data_root", tmp_path / str(count), "--report", tmp_path / f"report_{count}"),
        )
        assert measured.returncode == 0, measured.output
        peaks.append(measured.peak_megabytes)
        print(f"evaluation of {count} photographs of 4000x3000: peak {peaks[-1]:.0f} MB")
    # Four more than the few are in memory together.
    assert peaks[1] < peaks[0] + 4 * 170 + MORE_MEGABYTES
