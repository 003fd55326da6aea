"""What a mistyped flag is answered with."""

import subprocess
import sys

import jax
import pytest
from absl import flags

from sempart_jax.host import command_line
from sempart_jax.host.config_fields import describe_unknown_fields
from sempart_jax.runs.default_config import default_config
from tests.commands import own_words, run_module


def test_known_fields_and_other_flags_are_passed_over():
    arguments = ["train.py", "--config=x.py", "--config.optimizer.b1=0.5", "--workdir=runs/a"]
    assert describe_unknown_fields(arguments, default_config()) == ""


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("--config.learning_rate=1", "config.optimizer.learning_rate"),
        ("-config.data.imagesize=1", "config.data.image_size"),
        ("--config.eps=1", "config.guided_filter.eps"),
        ("--config.batchsize", "config.batch_size"),
    ],
)
def test_a_mistyped_field_is_answered_with_what_may_be_meant(argument, meant):
    answer = describe_unknown_fields(["train.py", argument], default_config())
    assert answer.startswith(f"unknown field {argument.lstrip('-').split('=')[0]}")
    assert meant in answer


def test_a_field_like_no_other_is_named_without_a_guess():
    assert (
        describe_unknown_fields(["--config.qqqq=1"], default_config())
        == "unknown field config.qqqq"
    )


@pytest.fixture
def arguments_of(monkeypatch):
    """Run a program with a flag, ``--side``, and return what its main function is called with."""
    values = flags.FlagValues()
    flags.DEFINE_integer("side", 1, "A number.", flag_values=values)
    flags.DEFINE_integer("verbosity", -1, "As absl's.", flag_values=values)

    def run(*arguments, **options):
        seen = []

        def app_run(main, flags_parser):
            main(flags_parser(["program", *arguments]))

        monkeypatch.setattr(flags, "FLAGS", values)
        monkeypatch.setattr(command_line.app, "run", app_run)
        main = options.pop("main", lambda *given: seen.append((given, values.side)))
        command_line.run(main, **options)
        return seen[0]

    return run


def test_arguments_that_are_no_flags_are_passed_on_where_they_are_wanted(arguments_of):
    assert arguments_of("a b", "--side=2", "c", positional=True) == ((["a b", "c"],), 2)
    assert arguments_of("--side", "3", "--", "--side=4", positional=True) == ((["--side=4"],), 3)
    assert arguments_of(positional=True) == (([],), 3)


def test_a_home_is_written_out_wherever_a_path_begins(arguments_of, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = [
        "~/a",
        "--out=~/m",
        "-config.data.train=~",
        "--weights=dino=~/w",
        "a~/b",
        "--x=1~",
        "~~",
    ]
    home = ["/home/me/a", "--out=/home/me/m", "-config.data.train=/home/me"]
    expected = [*home, "--weights=dino=/home/me/w", "a~/b", "--x=1~", "~~"]
    assert command_line.expand_home(given) == expected
    assert arguments_of("~/a", "--", "~/b", positional=True)[0] == (["/home/me/a", "/home/me/b"],)


def test_arguments_that_are_no_flags_are_refused_elsewhere(arguments_of):
    assert arguments_of("--side=2") == ((), 2)
    with pytest.raises(SystemExit, match="error: unexpected arguments: a b"):
        arguments_of("a", "b")


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, ""), ({"resumable": True}, "interrupted; the same command continues\n")],
)
def test_an_interrupted_program_ends_as_shells_expect_it(monkeypatch, capsys, options, said):
    def interrupted():
        raise KeyboardInterrupt

    values = flags.FlagValues()
    flags.DEFINE_integer("verbosity", -1, "As absl's.", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(command_line.app, "run", lambda main, flags_parser: main(["program"]))
    with pytest.raises(SystemExit) as left:
        command_line.run(interrupted, **options)
    assert left.value.code == 130
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("flag", ["--help", "--helpfull", "-?"])
def test_help_is_a_success(flag):
    finished = run_module("pretrain", flag)
    assert finished.returncode == 0, finished.stderr
    assert "workdir" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "give an experiment: --config configs/tricks.py"),
        (["train", "--config.data.train=x"], "give an experiment: --config configs/tricks.py"),
        (["pretrain"], "give an experiment: --config configs/dino_pretrain.py"),
        (["segment", "photos"], "give an output folder: --out masks"),
    ],
)
def test_what_has_to_be_named_is_asked_for_with_an_example(arguments, message):
    finished = run_module(*arguments)
    assert finished.returncode == 1
    assert own_words(finished.stderr) == f"error: {message}\n"


OTHER_PROGRAM = """
import importlib, pkgutil
from absl import flags
import sempart_jax

flags.DEFINE_string("config", None, "Of a program that uses the library.")
flags.DEFINE_string("workdir", None, "Likewise.")
for module in pkgutil.walk_packages(sempart_jax.__path__, "sempart_jax."):
    # What needs an extra that may be missing.
    if module.name.split(".")[1] != "web":
        importlib.import_module(module.name)
print([name for name in flags.FLAGS.flags_by_module_dict() if name.startswith("sempart_jax")])
"""


def test_who_imports_the_library_has_flags_of_its_own():
    command = [sys.executable, "-c", OTHER_PROGRAM]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "[]\n"), finished.stderr


def test_memory_that_does_not_suffice_is_one_line_and_other_failures_a_traceback(arguments_of):
    def fail(error):
        raise error

    with pytest.raises(SystemExit, match=r"error: out of memory \(too little\)"):
        arguments_of(main=lambda: fail(MemoryError("too little")))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        arguments_of(main=lambda: fail(jax.errors.JaxRuntimeError("INTERNAL: broken")))
