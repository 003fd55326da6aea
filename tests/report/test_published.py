"""Published numbers: those of the paper, whole and in range."""

from sempart_jax.report.published import (
    LOCALIZATION_DATASETS,
    REIMPLEMENTED,
    ROWS,
    SALIENCY_DATASETS,
    SEMPART,
    TWO_TRICKS,
    find_rows,
)


def find_score(metric, dataset, **fields):
    (row,) = find_rows(dataset=dataset, **{"postprocessing": "none", **fields})
    return row.scores[dataset][metric]


def triple(method, dataset, postprocessing="none", table=1):
    return tuple(
        find_score(metric, dataset, table=table, method=method, postprocessing=postprocessing)
        for metric in ("accuracy", "iou", "max_f_beta")
    )


def test_numbers_of_table_1():
    assert triple(TWO_TRICKS, "dut_omron", "guided") == (0.920, 0.684, 0.765)
    assert triple(TWO_TRICKS, "duts_te", "guided") == (0.956, 0.787, 0.869)
    assert triple(TWO_TRICKS, "ecssd", "guided") == (0.952, 0.862, 0.931)
    assert triple(TWO_TRICKS, "ecssd", "bilateral") == (0.945, 0.830, 0.920)
    assert triple(REIMPLEMENTED, "dut_omron") == (0.908, 0.664, 0.758)
    assert triple(REIMPLEMENTED, "duts_te", "bilateral") == (0.950, 0.765, 0.857)
    assert triple(SEMPART, "ecssd") == (0.964, 0.855, 0.947)
    assert triple("LOST", "duts_te") == (0.871, 0.518, 0.611)
    assert triple("FOUND (single)", "ecssd") == (0.912, 0.793, 0.946)
    assert triple("SelfMask on two tricks", "dut_omron") == (0.935, 0.685, 0.790)


def test_numbers_of_the_other_tables():
    score = {"table": 2, "method": TWO_TRICKS, "postprocessing": "guided"}
    assert [find_score("corloc", name, **score) for name in LOCALIZATION_DATASETS] == [
        74.4,
        77.0,
        63.4,
    ]
    score = {"table": 3, "method": REIMPLEMENTED, "backbone": "dino_vits16", "crop": True}
    assert [find_score("iou", name, **score) for name in SALIENCY_DATASETS] == [0.647, 0.710, 0.812]
    score = {"table": 4, "method": REIMPLEMENTED, "postprocessing": "guided", "crop": False}
    assert find_score("corloc", "voc12", **score) == 75.7
    assert triple("TokenCut", "ecssd", "guided", table=5) == (0.925, 0.740, 0.861)
    assert triple("MOVE", "dut_omron", "guided", table=5) == (0.925, 0.615, 0.631)
    (deep_spectral,) = (row for row in ROWS if row.table is None)
    assert tuple(deep_spectral.scores["ecssd"].values()) == (0.864, 0.645, 0.785)
    assert "2404.03392" in deep_spectral.source
    assert not deep_spectral.source.startswith("arXiv")


def test_every_row_is_whole_and_in_range():
    metrics = {
        None: ("accuracy", "iou", "max_f_beta"),
        1: ("accuracy", "iou", "max_f_beta"),
        2: ("corloc",),
        3: ("iou",),
        4: ("corloc",),
        5: ("accuracy", "iou", "max_f_beta"),
    }
    for row in ROWS:
        boxes = metrics[row.table] == ("corloc",)
        assert tuple(row.scores) == (LOCALIZATION_DATASETS if boxes else SALIENCY_DATASETS)
        for scores in row.scores.values():
            assert tuple(scores) == metrics[row.table]
            for value in scores.values():
                assert 40 < value < 100 if boxes else 0.4 <= value < 1
            if not boxes and len(scores) == 3:
                assert scores["accuracy"] > scores["iou"]
                assert scores["max_f_beta"] > scores["iou"]
    assert [len(find_rows(table=table)) for table in range(1, 6)] == [15, 7, 12, 4, 6]


def test_same_number_wherever_the_paper_repeats_it():
    for dataset in SALIENCY_DATASETS:
        for method, postprocessing, crop in (
            (REIMPLEMENTED, "none", False),
            (TWO_TRICKS, "guided", True),
        ):
            ablation = find_score(
                "iou",
                dataset,
                table=3,
                method=method,
                postprocessing=postprocessing,
                backbone="dino_vits8",
                crop=crop,
            )
            assert ablation == triple(method, dataset, postprocessing)[1]
        for method in ("TokenCut", "MOVE"):
            assert triple(method, dataset, table=5) == triple(method, dataset)
    for row in find_rows(table=2, evaluator="paper"):
        (ablation,) = find_rows(table=4, postprocessing=row.postprocessing, crop=row.crop)
        assert ablation.scores == row.scores


def test_crop_helps_boxes_and_guided_filter_masks():
    """Sec. 5.4 says which trick gains what; a check mark in the wrong column would turn it."""
    variants = {"backbone": "dino_vits8", "evaluator": "paper"}
    for table, metric, datasets, better in (
        (3, "iou", SALIENCY_DATASETS, (False, "guided")),
        (4, "corloc", LOCALIZATION_DATASETS, (True, "none")),
    ):
        gains = {}
        for crop, postprocessing in ((True, "none"), (False, "guided")):
            (row,) = find_rows(table=table, crop=crop, postprocessing=postprocessing, **variants)
            gains[crop, postprocessing] = sum(row.scores[name][metric] for name in datasets)
        assert max(gains, key=gains.get) == better


def test_other_f_measure_is_marked_on_found_and_selfmask_alone():
    others = {row.method for row in ROWS if row.f_family == "per_image"}
    assert others == {row.method for row in ROWS if row.method.startswith(("FOUND", "SelfMask"))}
    assert len(others) == 5
    with_f = {row.method for row in ROWS if row.f_family is not None and row.table in (1, 5)}
    assert {row.method for row in find_rows(table=1)} <= with_f


def test_rows_are_found_by_every_field():
    assert find_rows() == ROWS
    assert {row.evaluator for row in find_rows(method=TWO_TRICKS)} == {"paper"}
    assert {row.evaluator for row in find_rows(method=SEMPART)} == {"authors"}
    assert {row.evaluator for row in find_rows(method="MOVE", postprocessing="guided")} == {"paper"}
    assert {row.crop for row in find_rows(crop=False)} == {False}
    assert find_rows(table=1, dataset="voc07") == ()
