"""What a mistyped flag is answered with."""

import pytest

from sempart_jax.command_line import describe_unknown_fields


def test_known_fields_and_other_flags_are_passed_over():
    arguments = ["train.py", "--config=x.py", "--config.optimizer.b1=0.5", "--workdir=runs/a"]
    assert describe_unknown_fields(arguments) == ""


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
    answer = describe_unknown_fields(["train.py", argument])
    assert answer.startswith(f"unknown field {argument.lstrip('-').split('=')[0]}")
    assert meant in answer


def test_a_field_like_no_other_is_named_without_a_guess():
    assert describe_unknown_fields(["--config.qqqq=1"]) == "unknown field config.qqqq"
