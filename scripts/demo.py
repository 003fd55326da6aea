"""Train both tricks on made-up scenes and show what they do; ``make demo`` calls this.

Then segment photographs by the built-in model.
"""

import argparse
import runpy
import shutil
import sys
import time
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

from sempart_jax.data.folder import find_images
from sempart_jax.data.images import read_image
from sempart_jax.data.synthetic import write_scenes
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.host.command_line import expand_home
from sempart_jax.metrics.saliency import SaliencyResult
from sempart_jax.networks.builtin_model import NAME
from sempart_jax.report.panels import save_png
from sempart_jax.train import train

REPOSITORY = Path(__file__).resolve().parent.parent


def read_demo_config(workdir: Path) -> ConfigDict:
    """Read ``configs/demo.py`` and point it at the scenes of this run."""
    config: ConfigDict = runpy.run_path(str(REPOSITORY / "configs/demo.py"))["get_config"]()
    config.data.train = str(workdir / "scenes/train/images")
    config.validation.images = str(workdir / "scenes/test/images")
    config.validation.masks = str(workdir / "scenes/test/masks")
    return config


def format_row(title: str, score: SaliencyResult) -> str:
    """Format one line of the closing table."""
    return f"  {title:<30} IoU {score.iou:.3f}   accuracy {score.accuracy:.3f}"


def show_photographs(photographs: Path, out: Path) -> None:
    """Draw a contact sheet of photographs that the built-in model segments.

    Args:
        photographs: folder.
        out: PNG to write.
    """
    # Not above: whoever asks for help need not wait for it.
    from sempart_jax.predict.load import load_segmenter
    from sempart_jax.report.contact_sheet import draw_contact_sheet

    images = [read_image(path) for path in find_images(photographs)]
    save_png(draw_contact_sheet(load_segmenter(NAME), images), out)


def main() -> None:
    """Make scenes, train, and print scores before, after, and after the guided filter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--train_scenes", type=int, default=200)
    parser.add_argument("--test_scenes", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(expand_home())
    workdir: Path = arguments.workdir.resolve()
    logging.set_verbosity(logging.WARNING)
    started = time.monotonic()
    config = read_demo_config(workdir)
    config.seed = arguments.seed
    # A demo is to be seen from its beginning: an earlier one is no run to be continued.
    shutil.rmtree(workdir, ignore_errors=True)
    print(f"making {arguments.train_scenes} + {arguments.test_scenes} scenes in {workdir}/scenes")
    size = config.data.image_size
    write_scenes(workdir / "scenes/train", arguments.train_scenes, size, seed=1)
    write_scenes(workdir / "scenes/test", arguments.test_scenes, size, seed=2)

    scores = train(config, workdir)

    before, after = scores[min(scores)], scores[max(scores)]
    print(f"\n{arguments.test_scenes} scenes that were not trained on:")
    print(format_row("a box in the middle", after[CENTRE_BOX]))
    print(format_row("fine mask before training", before["fine"]))
    print(format_row("fine mask after training", after["fine"]))
    print(format_row("... and after the guided filter", after["refined"]))
    photographs = workdir / "photographs.png"
    show_photographs(REPOSITORY / "examples/photographs", photographs)
    print(f"{time.monotonic() - started:.0f} s in all\n")
    print(f"Look at {workdir / 'panels'}/step_{max(scores):07d}.png (image, masks, filtered mask)")
    print(f"    and {workdir / 'curves.png'} (every loss term)")
    print(f"    and {photographs} (by the built-in model, which has never seen them)\n")
    print("Next, with photographs of your own in a folder PHOTOS (downloads DINOv2 once):")
    print(f"    {sys.executable} -m sempart_jax.segment PHOTOS --out masks")
    print(
        f"    {sys.executable} -m sempart_jax.train --config configs/dinov2_head.py "
        "--workdir runs/mine --config.data.train=PHOTOS"
    )


if __name__ == "__main__":
    main()
