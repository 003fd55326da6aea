"""``scripts/reproduce_tables.py``: its rows, its commands, and the tables, with no time spent."""

import functools
import importlib.util
import json
import re
import runpy
import shlex
import signal
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from sempart_jax.baselines.by_name import METHODS
from sempart_jax.data.synthetic import write_scenes
from sempart_jax.host.folder_lock import locked
from sempart_jax.metrics.protocols import PROTOCOLS
from sempart_jax.predict.postprocessing import POSTPROCESSINGS
from sempart_jax.report import published
from sempart_jax.runs.default_config import check_config
from tests.commands import REPOSITORY

_spec = importlib.util.spec_from_file_location(
    "reproduce_tables", REPOSITORY / "scripts/reproduce_tables.py"
)
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def after(command, flag):
    """The value of a flag."""
    return command[command.index(flag) + 1]


class Entrypoints:
    """Stands in for other processes: what they leave on the disk.

    Attributes:
        started: ``MODULE ARGUMENTS`` of each command, in order.
        failing: folders of rows whose trainings fail.
        kept_step: where each training ends; its last step is 10.
    """

    def __init__(self):
        self.started, self.failing, self.kept_step = [], (), 10

    def __call__(self, command):
        module = command[2].removeprefix("sempart_jax.")
        self.started.append([module, *command[3:]])
        if module == "train":
            run = Path(after(command, "--workdir"))
            if run.name in self.failing:
                return 3
            run.mkdir(parents=True, exist_ok=True)
            record = {"last step": 10, "kept step": self.kept_step}
            (run / "run.json").write_text(json.dumps(record))
        if module == "evaluate":
            report = Path(after(command, "--report"))
            report.mkdir(parents=True)
            labels = {"dataset": after(command, "--datasets"), "images": 2, "published_images": 2}
            scores = {"accuracy": 0.5, "iou": 0.5, "max_f_beta": 0.5, "corloc": 50.0}
            rows = [
                {**labels, "protocol": "crop320", "postprocessing": name, **scores}
                for name in ("none", "guided", "bilateral")
            ]
            content = {"saliency": rows, "localization": [], "facts": {"masks": "those of it"}}
            (report / "results.json").write_text(json.dumps(content))
        return 0

    def take(self):
        """Return the modules that were started since the last time, with the rows' folders."""
        taken, self.started = self.started, []
        return taken


@pytest.fixture
def entrypoints(monkeypatch):
    fake = Entrypoints()
    monkeypatch.setattr(script, "run_command", fake)
    return fake


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
    """Calls the script over two scenes laid out as ECSSD, from the repository's root."""
    monkeypatch.chdir(REPOSITORY)
    write_scenes(tmp_path / "data/ECSSD", 2, size=48, seed=0)
    (tmp_path / "data/ECSSD/masks").rename(tmp_path / "data/ECSSD/ground_truth_mask")

    def call(*arguments):
        paths = ["--data_root", tmp_path / "data", "--out", tmp_path / "out"]
        script.main([*map(str, paths), *map(str, arguments)])

    return call


def folders(commands):
    """Module, and folder of the row, of commands."""
    return [
        (module, Path(after(words, "--report")).parts[-4])
        if module == "evaluate"
        else (module, Path(after(words, "--workdir")).name)
        for module, *words in commands
    ]


def test_every_published_line_has_a_row_that_scores_it():
    for line in published.ROWS:
        assert set(line.scores) <= set(script.DATASETS)
        if line.table is not None and line.postprocessing != "bilateral_unstated":
            words = shlex.split(script.row_of(line).options)
            assert line.postprocessing in after(words, "--postprocessings").split(",")
            assert set(after(words, "--protocols").split(",")) <= set(PROTOCOLS)
            assert set(after(words, "--postprocessings").split(",")) <= set(POSTPROCESSINGS)
    assert {script.row_of(line) for line in published.ROWS} == set(script.ROWS)
    assert len({row.name for row in script.ROWS}) == len(script.ROWS)
    ablation = [script.row_of(line).name for line in published.find_rows(table=3)]
    assert ablation == [
        *("baseline", "crop", "baseline", "tricks"),
        *("baseline_dino_vits16", "crop_dino_vits16", "baseline_dino_vits16", "tricks_dino_vits16"),
        *("baseline_ibot_vits16", "crop_ibot_vits16", "baseline_ibot_vits16", "tricks_ibot_vits16"),
    ]
    # SelfMask learns from the masks that the row of its teacher shows.
    for teacher, method in (("baseline", published.REIMPLEMENTED), ("tricks", "two tricks")):
        line = published.find_rows(table=1, method=method)[0]
        (student,) = (row for row in script.ROWS if row.teacher == teacher)
        assert script.row_of(line).name == teacher
        assert student.refine == line.postprocessing


def flags_of(path, monkeypatch):
    """The flags of an entry point, apart from those of this process."""
    values = flags.FlagValues()
    with monkeypatch.context() as patch:
        for name in dir(flags):
            if name.startswith("DEFINE_"):
                define = functools.partial(getattr(flags, name), flag_values=values)
                patch.setattr(flags, name, define)
        runpy.run_path(str(REPOSITORY / path), run_name="entry_point")["define_flags"]()
    return values


# ml_collections reads a configuration by it.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_a_dry_run_shows_commands_that_the_entry_points_accept(
    reproduce, tmp_path, capsys, monkeypatch
):
    weights = ["--weights", "ibot_vits16=random", "--weights", "dino_vits8=random"]
    further = ["--train_args=--config.steps=1", "--method_args=--resolution 32"]
    reproduce("--dry_run", *weights, *further)
    printed = capsys.readouterr().out
    assert "# left out: voc07: " in printed
    assert "# move: left out: no masks (PREDICTIONS/move/DATASET/*.png)" in printed
    commands = [shlex.split(line)[2:] for line in printed.splitlines() if line[0] != "#"]
    assert not (tmp_path / "out").exists()
    assert sorted({module for module, *_ in commands}) == [
        f"sempart_jax.{name}" for name in ("evaluate", "segment", "train")
    ]
    configurations = {}
    for module, *arguments in commands:
        if module == "sempart_jax.train":
            values = flags.FlagValues()
            config_flags.DEFINE_config_file("config", flag_values=values)
            flags.DEFINE_string("workdir", None, "", flag_values=values)
            # The fields of a configuration are looked up there.
            monkeypatch.setattr(sys, "argv", ["train", *arguments])
            values(sys.argv)
            check_config(values.config)
            configurations[Path(values.workdir).name] = values.config
            continue
        values = flags_of(f"{module.replace('.', '/')}.py", monkeypatch)
        rest = values([module, *arguments])[1:]
        assert rest == ([f"{tmp_path}/data/DUTS"] if module == "sempart_jax.segment" else [])
        if module == "sempart_jax.evaluate":
            assert values.datasets == ["ecssd"]
            assert (values.method in METHODS) != (values.workdir is not None)
            assert values.resolution == (32 if values.method else None)
    for row in script.ROWS:
        assert (row.name in configurations) == bool(row.train)
        if row.title in ("baseline", "crop", "tricks"):
            config = configurations[row.name]
            assert config.backbone.name == row.backbone
            assert config.multiscale.enabled == (row.title != "baseline")
            assert config.multiscale.filtered_teacher == (row.title != "crop")
    assert configurations["baseline_ibot_vits16"].backbone.weights == "random"
    # Whoever learns from masks comes after they are made.
    order = folders([module.removeprefix("sempart_jax."), *words] for module, *words in commands)
    teacher, masks = order.index(("train", "tricks")), order.index(("segment", "tricks"))
    assert teacher < masks < order.index(("train", "selfmask_tricks"))


def test_what_is_finished_is_not_done_again(reproduce, entrypoints, tmp_path, capsys):
    reproduce("--tables", "4,5", "--datasets", "ecssd")
    assert folders(entrypoints.take()) == [("evaluate", "tokencut")]
    reproduce("--tables", "3", "--weights", "ibot_vits16=random")
    first = folders(entrypoints.take())
    assert first[:2] == [("train", "baseline"), ("evaluate", "baseline")]
    assert len(first) == 9 * 2
    capsys.readouterr()
    (tmp_path / "out/crop/scores/computed/ecssd/results.json").unlink()
    (tmp_path / "out/crop/scores/computed/ecssd").rmdir()
    reproduce("--tables", "3", "--weights", "ibot_vits16=random")
    assert folders(entrypoints.take()) == [("evaluate", "crop")]
    assert capsys.readouterr().out.count("# done before: ") == 17


def test_a_failing_command_is_named_and_the_others_are_run(reproduce, entrypoints, tmp_path):
    entrypoints.failing = ("tricks",)
    with pytest.raises(SystemExit) as ended:
        reproduce("--tables", "1")
    assert re.search(r"^error: .*\n  tricks: failed: status 3 of .* --workdir", ended.value.code)
    done = folders(entrypoints.take())
    assert ("evaluate", "baseline") in done
    assert ("evaluate", "selfmask_baseline") in done
    assert {("evaluate", "tricks"), ("segment", "tricks")}.isdisjoint(done)
    text = (tmp_path / "out/tables.md").read_text()
    assert "selfmask_tricks: left out: the run" in text
    # One that was told to end has not failed, but is not trained.
    entrypoints.failing, entrypoints.kept_step = (), 4
    with pytest.raises(SystemExit, match="tricks: failed: told to end before its last step"):
        reproduce("--tables", "1")
    assert folders(entrypoints.take()) == [("train", "tricks")]


def test_without_training_what_is_trained_is_scored(reproduce, entrypoints, tmp_path):
    reproduce("--tables", "1", "--notrain")
    assert {module for module, *_ in entrypoints.take()} == {"evaluate"}
    text = (tmp_path / "out/tables.md").read_text()
    assert f"baseline: left out: the run {tmp_path}/out/baseline is not trained to its end" in text
    reproduce("--tables", "3")
    assert ("train", "baseline_ibot_vits16") not in folders(entrypoints.take())
    text = (tmp_path / "out/tables.md").read_text()
    assert "no download has its weights: give --weights ibot_vits16=PATH" in text


def test_given_masks_take_the_place_of_computed_ones(reproduce, entrypoints, tmp_path):
    for name in ("tricks", "move"):
        (tmp_path / "masks" / name / "ecssd").mkdir(parents=True)
    reproduce("--tables", "1,5", "--predictions", tmp_path / "masks")
    commands = entrypoints.take()
    given = [words for module, *words in commands if "--predictions" in words]
    assert [after(words, "--predictions") for words in given] == [
        f"{tmp_path}/masks/{name}" for name in ("move", "tricks")
    ]
    # It is trained all the same, for SelfMask learns from it.
    assert folders(commands).count(("evaluate", "tricks")) == 1
    assert ("train", "tricks") in folders(commands)
    assert "| move, masks | authors |" in (tmp_path / "out/tables.md").read_text()


def test_tables_show_ours_beside_the_published_numbers(reproduce, entrypoints, tmp_path, capsys):
    reproduce("--tables", "1,3", "--weights", "ibot_vits16=random")
    text = (tmp_path / "out/tables.md").read_text()
    assert text in capsys.readouterr().out
    ablation = text.split("## Table 3")[1]
    ours = "| ECSSD | 2 | crop320 | tricks, computed | paper | 0.500 | 0.862 | -0.362 |"
    assert f"dino_vits8: Crop + GF | guided filter {ours}" in ablation
    # An F measure of another kind has no difference.
    assert "found, computed | authors | 0.500 | 0.912 | -0.412 | 0.500 | 0.793 | -0.293 " in text
    assert "| 0.500 | 0.946† | – |" in text
    assert "tricks/scores/computed/ecssd: those of it`" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "6"], "'6': choose among 1, 2"),
        (["--datasets", "imagenet"], "'imagenet': choose among dut_omron"),
        (["--weights", "ibot_vits16=/no/file"], "there is no /no/file"),
        (["--weights", "resnet=a.pth"], "not NAME=PATH with one of .*ibot_vits16"),
        (["--predictions", "sempart_jax"], "is the folder of no row: .*tokencut"),
        (["--boxes", "/no/folder"], "there is no /no/folder"),
        (["--table", "1"], "unrecognized arguments: --table"),
    ],
)
def test_wrong_arguments_are_named(reproduce, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        reproduce(*arguments)
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_tables_without_such_data_sets_and_a_folder_in_use_are_refused(reproduce, tmp_path):
    with pytest.raises(SystemExit, match="none of these tables has one of these data sets"):
        reproduce("--tables", "2", "--datasets", "ecssd")
    with locked(tmp_path / "out", "--out"), pytest.raises(ValueError, match="in use by process"):
        reproduce("--tables", "1")


def test_a_command_gives_its_status_and_is_let_end_in_its_own_way(tmp_path):
    assert script.run_command([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    keeps = (
        "import pathlib, signal, sys, time\n"
        "def keep(number, frame):\n"
        "    time.sleep(0.2)\n"
        f"    pathlib.Path({str(tmp_path / 'kept')!r}).touch()\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, keep)\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )

    def end_when_ready(number, frame):
        if (tmp_path / "ready").exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.exit(143)

    before = signal.signal(signal.SIGALRM, end_when_ready)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(SystemExit):
            script.run_command([sys.executable, "-c", keeps])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "kept").exists()
