"""Pictures of all kinds to masks by networks and methods, from Python."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import sempart_jax
from sempart_jax.data.images import read_grey, read_image
from sempart_jax.evaluation.origin import FramedImage, method_origin
from sempart_jax.metrics.protocols import PROTOCOLS
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.predict.load import load_method_segmenter, network_segmenter
from sempart_jax.predict.method_step import MethodStep
from sempart_jax.predict.pictures import choose_side
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.segmentation.collection import segment
from tests.segmentation.red_images import red_segmenter
from tests.small_model import small_network

RGB = np.random.default_rng(0).integers(0, 256, (24, 30, 3)).astype(np.uint8)
PLAIN = {"refine": "none", "invert": "never"}


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def segmenter(network):
    return network_segmenter(network, **PLAIN)


def test_one_picture_gives_one_mask_and_a_list_gives_a_list(segmenter):
    mask = segmenter(RGB)
    assert mask.shape == (24, 30)
    assert mask.dtype == np.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    masks = segmenter([RGB, Image.fromarray(RGB).crop((0, 0, 7, 40))])
    np.testing.assert_array_equal(masks[0], mask)
    assert masks[1].shape == (40, 7)
    assert segmenter([]) == []


def test_kinds_of_pictures_give_one_mask(segmenter):
    mask = segmenter(RGB)
    for same in (Image.fromarray(RGB), RGB / 255, (RGB / 255).astype(np.float32), RGB.copy()):
        np.testing.assert_array_equal(segmenter(same), mask)


def finishes_as(predictor, options, refine, chosen):
    segmenter = Segmenter(predictor, **options, origin=dict)
    np.testing.assert_allclose(segmenter(RGB), postprocess(refine, RGB, chosen), atol=1e-6)


def test_refinement_and_side_are_those_of_the_options(segmenter):
    raw = segmenter(RGB)
    for refine in ("guided", "bilateral"):
        for invert, chosen in (
            ("never", raw),
            ("always", 1 - raw),
            ("auto", choose_side(raw, "auto")),
        ):
            finishes_as(segmenter.predictor, {"refine": refine, "invert": invert}, refine, chosen)
    with pytest.raises(ValueError, match="unknown refine 'crf': choose one of none, guided, bil"):
        Segmenter(segmenter.predictor, refine="crf", invert="auto", origin=dict)


def test_a_method_has_chosen_its_foreground_whatever_it_covers():
    step = MethodStep(lambda features: features.image[..., 0] > 0.48, HandcraftedBackbone())
    predictor = step.predictor({}, short_side=32)
    (raw,) = predictor([RGB])
    assert set(np.unique(raw)) == {0, 1}
    assert raw.mean() > 0.5
    for invert, chosen in (("never", raw), ("always", 1 - raw), ("auto", 1 - raw)):
        finishes_as(predictor, {"refine": "none", "invert": invert}, "none", chosen)


def test_settings_are_all_that_masks_follow_from(network, segmenter):
    settings = segmenter.settings()
    assert settings.keys() == {"network", "resolution", "refine", "invert"}
    assert (settings["resolution"], settings["refine"]) == (32, "none")
    params = jax.tree.map(lambda leaf: leaf + 1, network.variables)
    for part in (
        {"variables": params},
        {"frozen_params": {"w": np.ones(2)}},
        {"backbone": "other"},
        {"dtype": "bfloat16"},
        {"head_dtype": "bfloat16"},
    ):
        changed = dataclasses.replace(network, **part)
        other = network_segmenter(changed, **PLAIN, batch_size=2).settings()
        assert {name for name in settings if settings[name] != other[name]} == {"network"}


def test_settings_of_a_method_tell_its_name_as_well():
    options = {"backbone": "handcrafted", "resolution": 48}
    settings = load_method_segmenter("lost", **options).settings()
    assert settings.keys() == {"method", "network", "resolution", "refine", "invert"}
    assert settings["network"].split()[0] == "handcrafted"
    assert json.loads(json.dumps(settings)) == settings
    for changed, (method, other) in {
        "method": ("tokencut", {}),
        "resolution": ("lost", {"resolution": 64}),
        "refine": ("lost", {"refine": "none"}),
        "invert": ("lost", {"invert": "auto"}),
    }.items():
        different = load_method_segmenter(method, **options | other).settings()
        assert {name for name in settings if settings[name] != different[name]} == {changed}
    same = load_method_segmenter("lost", **options | {"resolution": 50}, batch_size=3)
    assert same.settings() == settings, "50 pixels are 48 to patches of 8"


def test_without_a_network_there_is_none_to_show_or_export(tmp_path):
    segmenter = red_segmenter()
    for use in (lambda: segmenter.network, lambda: segmenter.export(tmp_path / "a")):
        with pytest.raises(ValueError, match="holds no network: load one by load_segmenter"):
            use()
    assert not (tmp_path / "a").exists()


def test_files_hold_the_masks_that_are_scored(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        Image.fromarray(RGB).resize((70 + 13 * i, 60)).save(photos / f"{i}.png")
    options = {"backbone": "handcrafted", "resolution": 48, "refine": "none"}
    segmenter = sempart_jax.load_method_segmenter("tokencut", **options)
    summary = segment([str(photos)], tmp_path / "out", segmenter, outputs=["mask"])
    assert (summary.done, summary.failed) == (3, {})
    images = [read_image(photos / f"{i}.png") for i in range(3)]
    framed = [FramedImage(str(i), image, image.shape[:2]) for i, image in enumerate(images)]
    scored = method_origin("tokencut", "handcrafted", resolution=48).source(
        framed, PROTOCOLS["native"]
    )
    for i, mask in enumerate(scored):
        written = read_grey(tmp_path / f"out/masks/{i}.png")
        np.testing.assert_array_equal(written, mask * 255)
        assert 0 < mask.mean() < 1
    # Neither another method nor a network goes on in this folder.
    for wrong, message in (
        (load_method_segmenter("lost", **options), "with method = tokencut, now it is lost"),
        (red_segmenter(), "was written with method = tokencut, now it is not given"),
    ):
        with pytest.raises(ValueError, match=message):
            segment([str(photos)], tmp_path / "out", wrong, outputs=["mask"])
    assert segment([str(photos)], tmp_path / "out", segmenter, outputs=["mask"]).skipped == 3
