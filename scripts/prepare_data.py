r"""Prepare labelled data sets: download what is not there, and store it as ArrayRecord.

    python scripts/prepare_data.py duts dut_omron ecssd --data_root data

Archives or unpacked folders that are under the data root already are taken as they are.
"""

import argparse
import contextlib
import sys
from pathlib import Path

from absl import logging

from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.host.command_line import expand_home
from sempart_jax.host.shown_names import shorten

NAMES = sorted({benchmark.prepared for benchmark in BENCHMARKS.values()} | set(BENCHMARKS))


def prepare_and_report(dataset: str, arguments: argparse.Namespace) -> None:
    """Prepare a data set and say what there is now."""
    # The library takes a while to load, and mistyped arguments are to be told at once.
    from sempart_jax.data.builders import prepare

    # The library prints about a temporary folder; its progress goes elsewhere and stays.
    with contextlib.redirect_stdout(None):
        done = prepare(
            dataset,
            arguments.data_root,
            manual_dir=arguments.manual_dir,
            download=arguments.download,
        )
    state = "was prepared before" if done.was_there else "is prepared"
    print(f"{dataset} {state}: {done.folder}")
    for split, count in done.images.items():
        print(f"  {dataset} {split}: {count} images")
    for split, left_out in done.left_out.items():
        if left_out:
            examples = shorten([f"{label}: {reason}" for label, reason in left_out.items()])
            warn(f"{dataset} {split}: left out {len(left_out)} images: {examples}")
    for benchmark in BENCHMARKS.values():
        count = done.images.get(benchmark.split, 0)
        if benchmark.prepared == dataset and 0 < count != benchmark.published_images:
            warn(
                f"{dataset} {benchmark.split} has {count} images, but {benchmark.published_images} "
                "are published: its scores will be those of a subset"
            )
    for split, reason in done.missing.items():
        warn(f"there is no split {split}; run this again to add it. {reason}")


def warn(text: str) -> None:
    """Print a warning to where errors go."""
    print(f"warning: {text}", file=sys.stderr)


def main() -> None:
    """Prepare the data sets that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="holds the data sets")
    parser.add_argument("--manual_dir", type=Path, help="where files lie, if not in the data root")
    parser.add_argument("--download", action=argparse.BooleanOptionalAction, default=True)
    # The spelling of the project's other flags.
    parser.add_argument("--nodownload", dest="download", action="store_false")
    arguments = parser.parse_args(expand_home())
    logging.set_verbosity(logging.ERROR)
    if unknown := sorted(set(arguments.names) - set(NAMES)):
        sys.exit(f"error: unknown data set {', '.join(unknown)}: choose among {', '.join(NAMES)}")
    # A benchmark is a split of a data set, which is prepared as a whole.
    names = [BENCHMARKS[name].prepared if name in BENCHMARKS else name for name in arguments.names]
    failures = []
    for dataset in dict.fromkeys(names):
        try:
            prepare_and_report(dataset, arguments)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            failures.append(f"error: {error}")
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
