r"""Write the network of a training run as one model file.

    python scripts/write_model.py runs/tricks tricks.safetensors --dtype bfloat16

Of the run, the best checkpoint by validation is taken where there is one, or else the last one. The
file loads by ``sempart_jax.load_segmenter("tricks.safetensors")`` and as ``--workdir``.
"""

import argparse
import sys
from pathlib import Path

from sempart_jax.host.command_line import expand_home
from sempart_jax.networks.model_format import DTYPES
from sempart_jax.runs.source import find_source


def main() -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="directory of a run, or one of its checkpoints")
    parser.add_argument("out", type=Path, metavar="FILE.safetensors")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the stored matrices and kernels"
    )
    parser.add_argument("--weights", type=Path, help="file of the backbone's weights, if it moved")
    parser.add_argument(
        "--without_backbone", action="store_true", help="leave out the weights of the backbone"
    )
    given = parser.parse_args(expand_home())
    try:
        find_source(given.run)
        # Not above: what is mistyped is told before JAX is imported.
        from sempart_jax.networks.model_file import write_model
        from sempart_jax.runs.load_network import load_network

        network = load_network(given.run, weights=given.weights)
        write_model(
            given.out, network, include_backbone=not given.without_backbone, dtype=given.dtype
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit("error: " + " ".join(str(error).split()))
    print(f"wrote {given.out}, {given.out.stat().st_size / 1e6:.1f} MB: {network.origin}")


if __name__ == "__main__":
    main()
