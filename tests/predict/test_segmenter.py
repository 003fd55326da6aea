"""Pictures of all kinds to masks, from Python."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

import sempart_jax
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.model_file import write_model
from sempart_jax.predict import segmenter as image_segmenter
from sempart_jax.predict.load import TrainedNetwork
from sempart_jax.predict.pictures import choose_side
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.predict.segmenter import ImageSegmenter
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 30, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    segmenter = HeadNetwork(HandcraftedBackbone(), SegmentationHead(patch_size=8))
    variables = segmenter.init(jax.random.key(0), {}, 32)
    return TrainedNetwork(segmenter, {}, variables, 32, "handcrafted", "float32", "drawn")


@pytest.fixture(scope="module")
def segmenter(network):
    return ImageSegmenter(network, refine="none", invert="never")


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


def test_refinement_and_side_are_those_of_the_options(network, segmenter):
    raw = segmenter(RGB)
    for refine in ("guided", "bilateral"):
        for invert, chosen in (("never", raw), ("always", 1 - raw)):
            ours = ImageSegmenter(network, refine=refine, invert=invert)
            np.testing.assert_allclose(
                ours.finish(RGB, raw), postprocess(refine, RGB, chosen), atol=1e-6
            )
    refined = ImageSegmenter(network, refine="guided", invert="auto")(RGB)
    expected = postprocess("guided", RGB, choose_side(raw, "auto"))
    np.testing.assert_allclose(refined, expected, atol=1e-6)


def test_resolution_is_the_short_side_that_the_network_sees(network):
    segmenter = ImageSegmenter(network, resolution=61)
    assert segmenter.predictor.network_input(RGB).shape == (64, 88, 3)
    assert ImageSegmenter(network).predictor.network_input(RGB).shape == (32, 40, 3)


def test_settings_are_all_that_masks_follow_from(network, segmenter):
    settings = segmenter.settings()
    assert {name: settings[name] for name in ("resolution", "refine", "invert")} == {
        "resolution": 32,
        "refine": "none",
        "invert": "never",
    }
    assert settings.keys() == {"network", "resolution", "refine", "invert"}
    params = jax.tree.map(lambda leaf: leaf + 1, network.variables)
    for part in (
        {"variables": params},
        {"frozen_params": {"w": np.ones(2)}},
        {"backbone": "other"},
        {"dtype": "bfloat16"},
        {"head_dtype": "bfloat16"},
    ):
        other = ImageSegmenter(
            dataclasses.replace(network, **part), refine="none", invert="never", batch_size=2
        )
        different = other.settings()
        assert {name for name in settings if settings[name] != different[name]} == {"network"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refine": "crf"}, "unknown refine 'crf': choose one of none, guided, bilateral"),
        ({"invert": "maybe"}, "unknown invert 'maybe': choose one of auto, never, always"),
        ({"resolution": 0}, "resolution must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_unknown_options_are_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        ImageSegmenter(network, **options)


def test_options_reach_the_network_and_its_finish(network, tmp_path):
    write_model(tmp_path / "model.safetensors", network)
    segmenter = sempart_jax.load_segmenter(
        tmp_path / "model.safetensors",
        backbone="handcrafted",
        resolution=16,
        refine="none",
        invert="always",
        batch_size=2,
    )
    assert (segmenter.refine, segmenter.invert) == ("none", "always")
    assert segmenter.predictor.network_input(RGB).shape == (16, 24, 3)
    # Rounded up to one for each device.
    assert segmenter.predictor.batch_size == 8
    jax.tree.map(
        np.testing.assert_array_equal,
        segmenter.network.variables,
        jax.device_get(network.variables),
    )


def test_weights_and_backbone_reach_the_source(monkeypatch, network, tmp_path):
    asked = []

    def load_trained(source, *, backbone, weights):
        asked.append((source, backbone, weights))
        return network

    monkeypatch.setattr(image_segmenter, "load_trained", load_trained)
    sempart_jax.load_segmenter("head.pth", backbone="ibot_vits16", weights=tmp_path)
    assert asked == [("head.pth", "ibot_vits16", tmp_path)]
    with pytest.raises(ValueError, match="unknown refine 'crf'"):
        sempart_jax.load_segmenter("head.pth", refine="crf")
    assert len(asked) == 1, "mistyped options are told before anything is loaded"


def test_missing_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no run in {tmp_path}"):
        sempart_jax.load_segmenter(tmp_path)
