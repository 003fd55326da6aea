"""The table of the built-in model, from rows of hand-made results."""

from sempart_jax.report.builtin_scores import Scored, builtin_scores
from sempart_jax.report.markdown import markdown_table


def row(dataset, postprocessing, iou):
    return {
        **{"dataset": dataset, "postprocessing": postprocessing, "protocol": "native"},
        **{"images": 300, "published_images": 1000 if dataset == "ecssd" else 300},
        **{"iou": iou, "accuracy": iou + 0.1, "max_f_beta": None},
    }


def test_each_evaluation_has_a_row_a_postprocessing_under_one_centre_box():
    box = row("ecssd", "centre box", 0.39)
    first = [row("ecssd", "none", 0.5), row("ecssd", "guided", 0.51), box]
    duts = [row("duts_te", "guided", 0.4), row("duts_te", "centre box", 0.3)]
    table = builtin_scores([Scored("TokenCut", 128, first), Scored("Sempart", 192, first + duts)])
    assert table.columns[3:6] == ("ECSSD IoU", "ECSSD Acc", "ECSSD max F")
    assert table.rows == (
        ("centre box", "–", "–", "0.3900", "0.4900", "–", "0.3000", "0.4000", "–"),
        ("TokenCut", "128 px", "as predicted", "0.5000", "0.6000", *"––––"),
        ("TokenCut", "128 px", "guided filter", "0.5100", "0.6100", *"––––"),
        ("Sempart", "192 px", "as predicted", "0.5000", "0.6000", *"––––"),
        ("Sempart", "192 px", "guided filter", "0.5100", "0.6100", "–", "0.4000", "0.5000", "–"),
    )
    text = markdown_table(table)
    assert "- ECSSD: 300 of 1,000 images." in text
    assert "- DUTS-TE: 300 images." in text
    assert "whole images at their own size" in text


def test_nothing_scored_gives_no_rows():
    assert builtin_scores([]).rows == ()
