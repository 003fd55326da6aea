r"""Cut the foreground out of pictures on a web page on this machine.

    python -m sempart_jax.app --workdir runs/tricks

Without `--workdir`, the built-in model segments, where this installation has one.

Open the address that it prints. Pictures go to this program and nowhere else. Needs the extra
[app]: pip install 'sempart_jax[app]'.
"""

import numpy as np
from absl import flags

from sempart_jax import command_line
from sempart_jax.builtin_model import builtin_model_path
from sempart_jax.image_segmenter import load_segmenter
from sempart_jax.web.finishing import example_scenes
from sempart_jax.web.server import listen, private_folder, require_gradio, serve

_EXAMPLES = 4

_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "What segments: a run's directory, or what else load_segmenter takes; by default the built-in "
    "model.",
)
_BACKBONE = flags.DEFINE_string(
    "backbone", None, "Name of the backbone that a released head was trained on."
)
_WEIGHTS = flags.DEFINE_string("weights", None, "File of the backbone's weights, if it has moved.")
_RESOLUTION = flags.DEFINE_integer(
    "resolution", None, "Short side at which the network sees a picture.", lower_bound=1
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Where to listen; 0.0.0.0 lets other machines in, without a password."
)
_PORT = flags.DEFINE_integer(
    "port", 7860, "Port, or the next free one; 0 for any.", lower_bound=0, upper_bound=65535
)
_MAX_MEGABYTES = flags.DEFINE_float(
    "max_megabytes", 32.0, "Largest picture file that is taken.", lower_bound=0.01
)


def _main() -> None:
    with private_folder():
        _serve()


def _serve() -> None:
    # What is missing shows before a network is loaded.
    source = builtin_model_path() if _WORKDIR.value is None else _WORKDIR.value
    require_gradio()
    with listen(_HOST.value, _PORT.value) as listener:
        segmenter = load_segmenter(
            source,
            backbone=_BACKBONE.value,
            weights=_WEIGHTS.value,
            resolution=_RESOLUTION.value,
            batch_size=1,
        )

        def predict(image: np.ndarray) -> np.ndarray:
            return segmenter.predictor([image])[0]

        serve(
            predict,
            listener,
            host=_HOST.value,
            examples=example_scenes(_EXAMPLES, max(96, segmenter.network.short_side)),
            max_megabytes=_MAX_MEGABYTES.value,
        )


if __name__ == "__main__":
    command_line.run(_main)
