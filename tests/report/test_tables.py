"""Tables: exact text of a small evaluation, and what may stand beside what."""

import dataclasses

from sempart_jax.report.tables import OTHER_F_MARK, comparison, further_scores
from sempart_jax.report.text import format_evaluation, markdown_document, markdown_table

from . import hand_made


def test_table_of_the_terminal():
    sections = (
        hand_made.saliency_section(),
        hand_made.saliency_section(protocol="native", published_images=None),
    )
    shown = hand_made.evaluation(saliency=sections, left_out=("b: not there",))
    head = (
        "data set  protocol  foreground  images      masks             Acc     IoU   max F     MAE"
    )
    assert format_evaluation(shown).splitlines() == [
        head,
        "-" * len(head),
        *(
            f"ECSSD     {start}  {scores}"
            for start in ("crop320   batch       3 of 1,000", "native    image       3         ")
            for scores in (
                "as predicted   0.7500  0.5000  0.7926  0.2500",
                "guided filter  1.0000  1.0000  1.0000  0.0000",
                "centre box     0.5000  0.0833  0.1970  0.5000",
            )
        ),
        "",
        "data set  protocol  foreground  images  masks          CorLoc",
        "-------------------------------------------------------------",
        "VOC07     native    image       5,011   as predicted  71.6600",
        "",
        "left out: b: not there",
    ]


def test_further_scores_are_on_the_terminal_too():
    section = hand_made.saliency_section(extra=("guided",))
    shown = format_evaluation(hand_made.evaluation(saliency=(section,), localization=()))
    title, head, _, row = shown.split("\n\n")[1].splitlines()
    assert title.startswith("Further scores, ECSSD, ")
    assert head.split("  ")[0] == "masks"
    assert row.startswith("guided filter")
    assert "0.2500" in row
    # Names that are no UTF-8 can be printed.
    odd = hand_made.saliency_section(dataset="\udcff")
    text = format_evaluation(hand_made.evaluation(saliency=(odd,)))
    assert text.encode("utf-8").startswith(b"data set")
    assert "\n\\udcff    crop320" in text
    empty = hand_made.evaluation(saliency=(), localization=(), left_out=())
    assert format_evaluation(empty) == "nothing was scored"


def test_own_rows_stand_above_the_published_ones():
    lines = markdown_table(comparison(hand_made.saliency_section())).splitlines()
    assert lines[:6] == [
        "| method | masks | protocol | Acc | IoU | max F | MAE |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| **this evaluation** | **as predicted** | **crop320** "
        "| **0.7500** | **0.5000** | **0.7926** | **0.2500** |",
        "| **this evaluation** | **guided filter** | **crop320** "
        "| **1.0000** | **1.0000** | **1.0000** | **0.0000** |",
        "| **this evaluation** | **centre box** | **crop320** "
        "| **0.5000** | **0.0833** | **0.1970** | **0.5000** |",
        "| LOST | as predicted | authors' | 0.895 | 0.654 | 0.758 | – |",
    ]
    assert "| two tricks | guided filter | crop320 | 0.952 | 0.862 | 0.931 | – |" in lines
    assert "| TokenCut | guided filter | crop320 | 0.925 | 0.740 | 0.861 | – |" in lines
    assert "| FOUND (single) | as predicted | authors' | 0.912 | 0.793 | 0.946† | – |" in lines
    rows = [line.split("|")[1:4] for line in lines if line.startswith("|")]
    assert len({tuple(row) for row in rows}) == len(rows) == 2 + 3 + 19
    # Two F measures never stand unmarked.
    table = comparison(hand_made.saliency_section())
    for row in table.rows:
        other = row[0].startswith(("FOUND", "SelfMask"))
        assert row[5].endswith(OTHER_F_MARK) == other
    assert any(note.startswith(OTHER_F_MARK) and "0.09" in note for note in table.notes)


def said(**fields):
    """Title and notes of the table of a section, and how many rows are published."""
    table = comparison(hand_made.saliency_section(**fields))
    assert ("**" in markdown_table(table)) == (table.ours < len(table.rows))
    return table.title, " ".join(table.notes), len(table.rows) - table.ours


def test_published_rows_stand_beside_their_own_protocol_alone_and_a_subset_is_said():
    title, notes, published = said()
    assert title.endswith("(crop320), 3 of 1,000 images")
    assert "Only 3 of 1,000 images" in notes
    assert published == 19
    for whole in (3, None):
        title, notes, _ = said(published_images=whole)
        assert title.endswith("(crop320), 3 images")
        assert "Only" not in notes
    _, notes, published = said(protocol="native")
    assert "are of protocol crop320, not native" in notes
    assert OTHER_F_MARK not in notes
    assert published == 0
    for protocol in ("crop320", "native"):
        title, notes, published = said(dataset="mine", protocol=protocol)
        assert title.startswith("mine, ")
        assert "ublished" not in notes
        assert published == 0


def test_boxes_stand_beside_table_2():
    table = comparison(hand_made.localization_section())
    assert table.title == "VOC07, whole images at their own size (native), 5,011 images"
    assert table.rows[:2] == (
        ("this evaluation", "as predicted", "native", "71.6600"),
        ("LOST", "as predicted", "authors'", "61.9"),
    )
    assert table.rows[-1] == ("two tricks", "guided filter", "not stated", "74.4")
    assert len(table.rows) == 1 + 7
    assert any("Foreground" in note for note in table.notes)
    given = comparison(hand_made.localization_section("boxes", 6000))
    assert not any("Foreground" in note for note in given.notes)
    assert any("Only 5,011 of 6,000 images" in note for note in given.notes)


def test_further_scores_follow_the_fields_and_leave_nan_out():
    assert further_scores(hand_made.saliency_section()) is None
    table = further_scores(hand_made.saliency_section(extra=("none", "odd key")))
    heads = ("MAE", "weighted F", "S-measure", "max E-measure", "mean E-measure")
    assert table.columns == ("masks", *heads)
    numbers = ("0.2500", "0.5000", "0.7500", "0.8750", "–")
    assert table.rows == (("as predicted", *numbers), ("odd key", *numbers))


def test_document_holds_every_table_and_what_was_left_out():
    document = markdown_document(hand_made.evaluation())
    assert document.startswith("# run \\<1\\>\n\n- run: runs/a\\|b\n\n## ECSSD, centre crop of 320")
    headings = [line for line in document.splitlines() if line.startswith("## ")]
    assert len(headings) == 5
    assert headings[2].startswith("## Further scores, ECSSD")
    assert "- \\<b\\>\"a\"&'b'\\|\\\\udcff.jpg: not readable\n" in document
    document.encode("utf-8")
    # Unknown keys stand for themselves and cannot break a table.
    section = hand_made.saliency_section(dataset="a|b\nc", protocol="mine", published_images=None)
    scored = {"new*key": section.scores["none"]}
    section = dataclasses.replace(section, scores=scored, foreground_rule="by hand")
    document = markdown_document(hand_made.evaluation(saliency=(section,)))
    assert "## a\\|b c, mine, 3 images" in document
    assert "| this evaluation | new\\*key | mine | 0.7500" in document
    assert "- Foreground: by hand." in document
