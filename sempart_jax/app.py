r"""Serve a web page on this machine that cuts the foreground out of pictures.

    python -m sempart_jax.app --workdir runs/tricks

Without `--workdir`, it uses the head over DINOv2 that comes with the package, whose backbone is
downloaded once, or else the built-in model.

Open the address that it prints. Pictures are sent to this program only. Needs the extra [app]:
pip install 'sempart_jax[app]'.
"""

import os
import signal
import sys
import tempfile

import numpy as np
from absl import flags

from sempart_jax.host import command_line
from sempart_jax.networks import builtin_model
from sempart_jax.predict.options import define_network_flags, given_flags
from sempart_jax.runs.source import find_source


def define_flags() -> None:
    """Define the flags, as the program does: who imports this module has flags of its own."""
    define_network_flags(
        "Network: a run's directory, a checkpoint, a model file or a released head. Default: "
        f"{builtin_model.DINOV2}, the head of the package over DINOv2 ViT-S/14."
    )
    flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "Address to listen on; 0.0.0.0 admits other machines, without a password.",
    )
    flags.DEFINE_integer("port", None, "Port (default: the first free one from 7860).", 1, 65535)
    flags.DEFINE_float("max_megabytes", 32.0, "Largest picture file to accept.", lower_bound=0.01)


def _main() -> None:
    find_source(flags.FLAGS.workdir)
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="sempart_jax_app_") as folder:
        # Gradio serves the files in these folders, and looks up their names when it is imported.
        os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = folder
        _serve()


def _serve() -> None:
    # What is mistyped has been told before JAX and what computes with it are imported.
    from sempart_jax.data.synthetic import synthetic_scene
    from sempart_jax.host.compilation_cache import enable_compilation_cache
    from sempart_jax.host.devices import check_gpu, tell_devices
    from sempart_jax.predict.load import load_segmenter

    enable_compilation_cache()
    check_gpu(flags.FLAGS.require_gpu)
    # What is missing shows before a network is loaded.
    try:
        from sempart_jax.web.serving import serve
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the web page needs the extra [app] ({error}): pip install 'sempart_jax[app]'"
        ) from error
    given = flags.FLAGS
    options = given_flags("backbone", "weights", "resolution")
    segmenter = load_segmenter(given.workdir, batch_size=1, **options)
    tell_devices(segmenter.computation)
    side = max(96, segmenter.network.short_side)
    serve(
        lambda image: segmenter.predictor([image])[0],
        invert=segmenter.invert,
        host=given.host,
        port=given.port,
        examples=[synthetic_scene(np.random.default_rng([7, i]), side)[0] for i in range(4)],
        max_megabytes=given.max_megabytes,
    )


def _leave(number: int, frame: object) -> None:
    del frame
    # Another one would interrupt what removes the files.
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    define_flags()
    command_line.run(_main)
