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

TRIPLE = ("accuracy", "iou", "max_f_beta")


def scores(dataset, **fields):
    (row,) = find_rows(dataset=dataset, **{"postprocessing": "none", **fields})
    return tuple(row.scores[dataset].values())


def test_numbers_of_the_paper():
    for table, method, postprocessing, dataset, expected in (
        (1, TWO_TRICKS, "guided", "dut_omron", (0.920, 0.684, 0.765)),
        (1, TWO_TRICKS, "guided", "duts_te", (0.956, 0.787, 0.869)),
        (1, TWO_TRICKS, "guided", "ecssd", (0.952, 0.862, 0.931)),
        (1, TWO_TRICKS, "bilateral", "ecssd", (0.945, 0.830, 0.920)),
        (1, REIMPLEMENTED, "none", "dut_omron", (0.908, 0.664, 0.758)),
        (1, REIMPLEMENTED, "bilateral", "duts_te", (0.950, 0.765, 0.857)),
        (1, SEMPART, "none", "ecssd", (0.964, 0.855, 0.947)),
        (1, "LOST", "none", "duts_te", (0.871, 0.518, 0.611)),
        (1, "FOUND (single)", "none", "ecssd", (0.912, 0.793, 0.946)),
        (1, "SelfMask on two tricks", "none", "dut_omron", (0.935, 0.685, 0.790)),
        (2, TWO_TRICKS, "guided", "voc07", (74.4,)),
        (2, TWO_TRICKS, "guided", "voc12", (77.0,)),
        (2, TWO_TRICKS, "guided", "coco20k", (63.4,)),
        (5, "TokenCut", "guided", "ecssd", (0.925, 0.740, 0.861)),
        (5, "MOVE", "guided", "dut_omron", (0.925, 0.615, 0.631)),
        (None, "Deep Spectral", "none", "ecssd", (0.864, 0.645, 0.785)),
    ):
        found = scores(dataset, table=table, method=method, postprocessing=postprocessing)
        assert found == expected, (table, method, dataset)
    ablation = {"table": 3, "method": REIMPLEMENTED, "backbone": "dino_vits16", "crop": True}
    found = [scores(name, **ablation) for name in SALIENCY_DATASETS]
    assert found == [(0.647,), (0.710,), (0.812,)]
    assert scores("voc12", table=4, postprocessing="guided", crop=False) == (75.7,)
    (elsewhere,) = find_rows(table=None)
    assert "not in arXiv 2404.03392" in elsewhere.source


def test_every_row_is_whole_and_in_range():
    metrics = {2: ("corloc",), 3: ("iou",), 4: ("corloc",)}
    for row in ROWS:
        expected = metrics.get(row.table, TRIPLE)
        boxes = expected == ("corloc",)
        assert tuple(row.scores) == (LOCALIZATION_DATASETS if boxes else SALIENCY_DATASETS)
        for found in row.scores.values():
            assert tuple(found) == expected
            for value in found.values():
                assert 40 < value < 100 if boxes else 0.4 <= value < 1
            if expected == TRIPLE:
                assert min(found["accuracy"], found["max_f_beta"]) > found["iou"]
    assert [len(find_rows(table=table)) for table in range(1, 6)] == [15, 7, 12, 4, 6]


def test_same_number_wherever_the_paper_repeats_it():
    for dataset in SALIENCY_DATASETS:
        for fields in (
            {"method": REIMPLEMENTED, "postprocessing": "none", "crop": False},
            {"method": TWO_TRICKS, "postprocessing": "guided", "crop": True},
        ):
            (ablation,) = scores(dataset, table=3, backbone="dino_vits8", **fields)
            assert ablation == scores(dataset, table=1, **fields)[1]
        for method in ("TokenCut", "MOVE"):
            repeated = [scores(dataset, table=table, method=method) for table in (1, 5)]
            assert repeated[0] == repeated[1]
    for row in find_rows(table=2, evaluator="paper"):
        (ablation,) = find_rows(table=4, postprocessing=row.postprocessing, crop=row.crop)
        assert ablation.scores == row.scores


def test_crop_helps_boxes_and_guided_filter_masks():
    """Sec. 5.4 says which trick gains what; a check mark in the wrong column would turn it."""

    def gain(table, datasets, **trick):
        fields = {"table": table, "backbone": "dino_vits8", "evaluator": "paper"}
        return sum(scores(name, **fields, **trick)[0] for name in datasets)

    crop, filtered = {"crop": True}, {"crop": False, "postprocessing": "guided"}
    assert gain(3, SALIENCY_DATASETS, **filtered) > gain(3, SALIENCY_DATASETS, **crop)
    assert gain(4, LOCALIZATION_DATASETS, **crop) > gain(4, LOCALIZATION_DATASETS, **filtered)


def test_rows_say_who_scored_and_by_which_f_measure():
    assert find_rows() == ROWS
    assert {row.evaluator for row in find_rows(method=TWO_TRICKS)} == {"paper"}
    assert {row.evaluator for row in find_rows(method=SEMPART)} == {"authors"}
    assert {row.evaluator for row in find_rows(method="MOVE", postprocessing="guided")} == {"paper"}
    assert find_rows(table=1, dataset="voc07") == ()
    for row in ROWS:
        other = row.method.startswith(("FOUND", "SelfMask"))
        family = "per_image" if other else "mean_curve"
        assert row.f_family == (family if row.table in (None, 1, 5) else None)
