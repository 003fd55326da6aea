r"""Make the built-in model and its scores: pretrain ViT-Ti/8, train heads over it, score, export.

    python scripts/build_builtin_model.py --images data/DUTS --data_root data --out runs/builtin \
        --dtype bfloat16 --install

Pretrains on all images, trains Sempart's baseline and both tricks over the backbone on the same
images, writes OUT/model.safetensors, and scores it on DATA_ROOT beside TokenCut over a handcrafted,
a random and the pretrained backbone: OUT/scores.md. --install puts the model into the package.

Started again, the same command goes on where it was stopped; what is finished is not done again.
--stages takes a part of it, on one machine or another: OUT holds all that the next stage needs.
"""

import os
import shlex
import sys
from pathlib import Path

from absl import flags

from sempart_jax import builtin_model, command_line
from sempart_jax.atomic_write import write_atomically
from sempart_jax.folder_lock import locked
from sempart_jax.report.builtin_scores import builtin_scores
from sempart_jax.report.markdown import markdown_table
from sempart_jax.reproduction.builtin import STAGES, BuiltinModel, Recipe, install
from sempart_jax.reproduction.module_commands import ModuleCommands

REPOSITORY = Path(__file__).resolve().parent.parent

_IMAGES = flags.DEFINE_string("images", "data/DUTS", "Folder of the images that are trained on.")
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "Folder that holds ECSSD and DUTS.")
_OUT = flags.DEFINE_string("out", "runs/builtin", "Folder for runs, model files and scores.")
_STAGES = flags.DEFINE_list("stages", list(STAGES), f"Among {', '.join(STAGES)}.")
_EPOCHS = flags.DEFINE_integer("epochs", 400, "Of the pretraining.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Of the pretraining.", lower_bound=1)
_HEAD_EPOCHS = flags.DEFINE_integer("head_epochs", 30, "Of each head.", lower_bound=1)
_HEAD_BATCH_SIZE = flags.DEFINE_integer("head_batch_size", 32, "Of each head.", lower_bound=1)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of the backbone's matrix products in training."
)
_RESOLUTIONS = flags.DEFINE_list(
    "resolutions",
    ["128"],
    "Short sides in pixels at which everything is scored; the first is that of the built-in model.",
)
_PRETRAIN_ARGS = flags.DEFINE_string("pretrain_args", "", "Further arguments of the pretraining.")
_TRAIN_ARGS = flags.DEFINE_string("train_args", "", "Further arguments of both trainings.")
_INSTALL = flags.DEFINE_bool("install", False, "Put OUT/model.safetensors into the package.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Show the commands and run none of them.")


def carry_out(model: BuiltinModel) -> None:
    """Do the wanted stages in their order, up to the first that fails; scores may fail last."""
    for name in (name for name in STAGES if name in _STAGES.value):
        if not getattr(model, name)() and name != "evaluate":
            break


def _main() -> None:
    unknown = sorted(set(_STAGES.value) - set(STAGES))
    if unknown:
        raise ValueError(
            f"--stages: unknown {', '.join(unknown)}: choose among {', '.join(STAGES)}"
        )
    resolutions = [word for word in _RESOLUTIONS.value if word.isdecimal() and int(word) > 0]
    if not resolutions or resolutions != _RESOLUTIONS.value:
        raise ValueError(f"--resolutions={','.join(_RESOLUTIONS.value)}: give pixels, as 128,256")
    images, data_root, out = (
        Path(os.path.relpath(flag.value, REPOSITORY)) for flag in (_IMAGES, _DATA_ROOT, _OUT)
    )
    os.chdir(REPOSITORY)
    commands = ModuleCommands(dry_run=_DRY_RUN.value)
    recipe = Recipe(
        images=images,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        head_epochs=_HEAD_EPOCHS.value,
        head_batch_size=_HEAD_BATCH_SIZE.value,
        dtype=_DTYPE.value,
        pretrain_args=shlex.split(_PRETRAIN_ARGS.value),
        train_args=shlex.split(_TRAIN_ARGS.value),
    )
    model = BuiltinModel(
        commands,
        recipe,
        out=out,
        data_root=data_root,
        resolutions=[int(word) for word in resolutions],
    )
    if _DRY_RUN.value:
        carry_out(model)
        return
    with locked(out, "--out"):
        carry_out(model)
    if model.scored:
        table = builtin_scores(model.scored)
        document = f"# {table.title}\n\n{markdown_table(table)}\n"
        write_atomically(out / "scores.md", document)
        print(f"\n{document}\nthe table is in {out}/scores.md")
    if problems := [*commands.failures, *commands.left_out]:
        listed = "\n  ".join(problems)
        sys.exit(f"error: not all is done:\n  {listed}")
    if _INSTALL.value:
        print(f"the built-in model is {install(out / builtin_model.FILE)}")


if __name__ == "__main__":
    command_line.run(_main, resumable=True)
