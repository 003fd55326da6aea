"""Which run, masks or boxes stand behind each published row."""

import importlib.util

import pytest

from sempart_jax.baselines import methods as baselines
from sempart_jax.evaluation.protocols import PROTOCOLS
from sempart_jax.postprocessing import POSTPROCESSINGS
from sempart_jax.report.published import REIMPLEMENTED, ROWS, TWO_TRICKS, find_rows
from sempart_jax.report.reproduction import (
    DATASETS,
    METHODS,
    RUN_POSTPROCESSINGS,
    SAVED_FOLDERS,
    STUDENTS,
    TABLES,
    Candidate,
    Run,
    candidates,
    computed_origin,
    key_of,
    needed,
    postprocessings_of,
    run_of,
)
from tests.commands import REPOSITORY

VITS8, VITS16, IBOT = "dino_vits8", "dino_vits16", "ibot_vits16"
OURS = {
    1: [
        ("baseline", "none", (0.664, 0.761, 0.853)),
        ("tricks", "guided", (0.684, 0.787, 0.862)),
        ("baseline", "bilateral", (0.689, 0.765, 0.849)),
        ("tricks", "bilateral", (0.675, 0.742, 0.830)),
    ],
    2: [("baseline", "none", (71.7, 75.9, 61.3)), ("tricks", "guided", (74.4, 77.0, 63.4))],
    3: [
        ("baseline", "none", (0.664, 0.761, 0.853)),
        ("crop", "none", (0.670, 0.772, 0.852)),
        ("baseline", "guided", (0.684, 0.784, 0.869)),
        ("tricks", "guided", (0.684, 0.787, 0.862)),
        ("baseline_dino_vits16", "none", (0.604, 0.692, 0.784)),
        ("crop_dino_vits16", "none", (0.647, 0.710, 0.812)),
        ("baseline_dino_vits16", "guided", (0.608, 0.697, 0.788)),
        ("tricks_dino_vits16", "guided", (0.652, 0.714, 0.816)),
        ("baseline_ibot_vits16", "none", (0.584, 0.650, 0.793)),
        ("crop_ibot_vits16", "none", (0.588, 0.654, 0.797)),
        ("baseline_ibot_vits16", "guided", (0.600, 0.664, 0.806)),
        ("tricks_ibot_vits16", "guided", (0.604, 0.668, 0.811)),
    ],
    4: [
        ("baseline", "none", (71.7, 75.9, 61.3)),
        ("crop", "none", (74.2, 77.0, 64.3)),
        ("baseline", "guided", (71.7, 75.7, 61.3)),
        ("tricks", "guided", (74.4, 77.0, 63.4)),
    ],
    5: [],
}
"""Run, post-processing, and IoU or CorLoc of each of our rows, in the order of the paper."""


@pytest.mark.parametrize("table", TABLES)
def test_each_row_of_ours_is_of_one_run(table):
    found = []
    for row in find_rows(table=table):
        run = run_of(row)
        if run is not None:
            metric = "corloc" if table in (2, 4) else "iou"
            values = tuple(scores[metric] for scores in row.scores.values())
            found.append((run.name, row.postprocessing, values))
    assert found == OURS[table]
    assert len({(run, postprocessing) for run, postprocessing, _ in found}) == len(found)


def test_every_other_row_has_a_key_of_its_own_method():
    for row in ROWS:
        ours = row.evaluator == "paper" and row.method in (REIMPLEMENTED, TWO_TRICKS)
        assert (run_of(row) is None) != ours
        assert key_of(row) == (run_of(row) if ours else SAVED_FOLDERS[row.method])
    methods = {row.method for row in ROWS} - {REIMPLEMENTED, TWO_TRICKS}
    assert set(SAVED_FOLDERS) == methods
    assert len(set(SAVED_FOLDERS.values())) == len(SAVED_FOLDERS)


def test_numbers_that_are_published_twice_have_one_origin():
    """Tables 1 and 3 and Tables 2 and 4 share numbers: one of ours stands beside both."""
    published = {}
    for row in ROWS:
        for dataset, scores in row.scores.items():
            for candidate in candidates(row, dataset):
                for metric, value in scores.items():
                    key = (candidate, row.postprocessing, dataset, metric)
                    assert published.setdefault(key, value) == value
    assert len(published) > 100


def test_all_that_a_row_needs_is_scored():
    for row in ROWS:
        if run_of(row) is not None:
            assert row.postprocessing in RUN_POSTPROCESSINGS
        elif row.postprocessing != "bilateral_unstated":
            assert row.postprocessing in postprocessings_of(key_of(row))
    assert set(RUN_POSTPROCESSINGS) <= set(POSTPROCESSINGS)
    assert postprocessings_of("tokencut") == ("none", "guided", "bilateral_16_16_8")
    assert postprocessings_of("lost") == postprocessings_of("sempart") == ("none",)


def test_other_methods_that_are_computed_here():
    keys = set(SAVED_FOLDERS.values())
    assert set(METHODS) | set(STUDENTS) < keys
    assert keys - set(METHODS) - set(STUDENTS) == {
        *("move", "sempart", "selfmask_move", "selfmask_sempart")
    }
    for method in METHODS.values():
        assert method.name in baselines.METHODS
        assert (method.decoder is not None) == method.name.startswith("found")
    # The masks that SelfMask learns from are those of its teacher's own row.
    for key, teacher in (("selfmask_baseline", REIMPLEMENTED), ("selfmask_tricks", TWO_TRICKS)):
        row = next(
            row for row in find_rows(table=1, method=teacher) if "bila" not in row.postprocessing
        )
        assert STUDENTS[key].teacher == run_of(row)
        assert STUDENTS[key].refine == row.postprocessing
        assert SAVED_FOLDERS[f"SelfMask on {teacher}"] == key
    assert computed_origin("found") == "methods/found"
    assert computed_origin("selfmask_tricks") == "selfmask_tricks"
    # No folder holds two things.
    runs = {key.name for key in needed(TABLES, DATASETS) if isinstance(key, Run)}
    runs |= {method.decoder for method in METHODS.values() if method.decoder}
    assert runs.isdisjoint(STUDENTS)
    assert runs.isdisjoint({"masks", "boxes", "methods", "pseudo_masks"})


def test_candidates():
    (tricks,) = find_rows(table=2, method=TWO_TRICKS)
    assert candidates(tricks, "voc12") == (Candidate("tricks", "native"),)
    (tricks,) = find_rows(table=1, method=TWO_TRICKS, postprocessing="guided")
    assert candidates(tricks, "ecssd") == (Candidate("tricks", "crop320"),)
    (lost,) = find_rows(table=2, method="LOST")
    assert candidates(lost, "voc07") == (
        Candidate("boxes/lost/voc07", "boxes"),
        Candidate("masks/lost", "native"),
        Candidate("methods/lost", "native"),
    )
    (student,) = find_rows(table=1, method="SelfMask on two tricks")
    assert candidates(student, "ecssd") == (
        Candidate("masks/selfmask_tricks", "crop320"),
        Candidate("masks/selfmask_tricks", "native"),
        Candidate("selfmask_tricks", "crop320"),
        Candidate("selfmask_tricks", "native"),
    )
    assert [candidate.over_frozen for candidate in candidates(lost, "voc07")] == [
        False,
        False,
        True,
    ]
    assert not any(candidate.over_frozen for candidate in candidates(student, "ecssd"))
    own, crop = Candidate("masks/move", "native"), Candidate("masks/move", "crop320")
    none, guided, _ = find_rows(table=5, method="MOVE")
    assert candidates(none, "ecssd") == (own, crop)
    assert candidates(guided, "ecssd") == (crop, own)
    assert {own.protocol, crop.protocol} == set(PROTOCOLS)


def config_of(run):
    """Read the configuration file of a run and take its overrides over."""
    _, path, *overrides = run.arguments
    spec = importlib.util.spec_from_file_location("config", REPOSITORY / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    for override in overrides:
        field, value = override.removeprefix("--config.").split("=")
        config.update_from_flattened_dict({field: value})
    return config


@pytest.mark.parametrize("backbone", [VITS8, VITS16, IBOT])
@pytest.mark.parametrize(
    ("variant", "crops", "filtered"),
    [("baseline", False, True), ("crop", True, False), ("tricks", True, True)],
)
def test_configurations_of_runs(variant, backbone, crops, filtered):
    config = config_of(Run(variant, backbone))
    assert config.backbone.name == backbone
    assert config.multiscale.enabled == crops
    assert config.multiscale.filtered_teacher == filtered


def test_needed_keeps_the_order_of_the_tables_and_joins_their_data_sets():
    baseline, tricks, crop = (Run(name, VITS8) for name in ("baseline", "tricks", "crop"))
    everything = needed(TABLES, DATASETS)
    runs = [key for key in everything if isinstance(key, Run)]
    assert [run.name for run in runs][:4] == [
        "baseline",
        "tricks",
        "crop",
        "baseline_dino_vits16",
    ]
    assert len(runs) == 9
    assert next(iter(everything)) == "lost"
    assert everything[baseline] == everything[tricks] == everything[crop] == DATASETS
    assert everything[Run("crop", IBOT)] == DATASETS[:3]
    assert needed([4], ["ecssd", "coco20k", "voc07"]) == dict.fromkeys(
        (baseline, crop, tricks), ("voc07", "coco20k")
    )
    assert needed([5], ["ecssd"]) == {"tokencut": ("ecssd",), "move": ("ecssd",)}
    assert needed([4], ["ecssd"]) == {}
