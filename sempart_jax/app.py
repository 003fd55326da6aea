r"""Cut the foreground out of pictures on a web page on this machine.

    python -m sempart_jax.app --workdir runs/tricks

Without `--workdir`, the built-in model segments, where this installation has one.

Open the address that it prints. Pictures go to this program and nowhere else. Needs the extra
[app]: pip install 'sempart_jax[app]'.
"""

from pathlib import Path

import numpy as np
from absl import flags

from sempart_jax.host import command_line
from sempart_jax.networks.builtin_model import builtin_model_path
from sempart_jax.predict.network_source import check_source

_EXAMPLES = 4


def define_flags() -> None:
    """Define the flags, as the program does: who imports this module has flags of its own."""
    flags.DEFINE_string(
        "workdir",
        None,
        "What segments: a run's directory, or what else load_segmenter takes; by default the "
        "built-in model.",
    )
    flags.DEFINE_string(
        "backbone", None, "Name of the backbone that a released head was trained on."
    )
    flags.DEFINE_string("weights", None, "File of the backbone's weights, if it has moved.")
    flags.DEFINE_integer(
        "resolution", None, "Short side at which the network sees a picture.", lower_bound=1
    )
    flags.DEFINE_string(
        "host", "127.0.0.1", "Where to listen; 0.0.0.0 lets other machines in, without a password."
    )
    flags.DEFINE_integer(
        "port", 7860, "Port, or the next free one; 0 for any.", lower_bound=0, upper_bound=65535
    )
    flags.DEFINE_float(
        "max_megabytes", 32.0, "Largest picture file that is taken.", lower_bound=0.01
    )


def _main() -> None:
    workdir = flags.FLAGS.workdir
    source = builtin_model_path() if workdir is None else workdir
    check_source(source)
    _serve(source)


def _serve(source: str | Path) -> None:
    # What is mistyped has been told before JAX and what computes with it are imported.
    from sempart_jax.host.compilation_cache import enable_compilation_cache
    from sempart_jax.predict.segmenter import load_segmenter
    from sempart_jax.web.finishing import example_scenes
    from sempart_jax.web.server import listen, private_folder, require_gradio, serve

    enable_compilation_cache()
    given = flags.FLAGS
    with private_folder():
        # What is missing shows before a network is loaded.
        require_gradio()
        with listen(given.host, given.port) as listener:
            segmenter = load_segmenter(
                source,
                backbone=given.backbone,
                weights=given.weights,
                resolution=given.resolution,
                batch_size=1,
            )

            def predict(image: np.ndarray) -> np.ndarray:
                return segmenter.predictor([image])[0]

            serve(
                predict,
                listener,
                host=given.host,
                examples=example_scenes(_EXAMPLES, max(96, segmenter.network.short_side)),
                max_megabytes=given.max_megabytes,
            )


if __name__ == "__main__":
    define_flags()
    command_line.run(_main)
