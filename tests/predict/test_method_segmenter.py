"""Methods without training on anybody's pictures, from Python."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import sempart_jax
from sempart_jax.data.images import read_grey, read_image
from sempart_jax.data.synthetic import synthetic_scene
from sempart_jax.evaluation.origin import FramedImage, method_origin
from sempart_jax.metrics.protocols import PROTOCOLS
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.predict import method_segmenter
from sempart_jax.predict.method_predictor import LoadedMethod, MethodPredictor
from sempart_jax.predict.method_segmenter import MethodSegmenter, load_method_segmenter
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.segmentation.collection import segment
from tests.segmentation.red_images import red_segmenter

SCENES = [synthetic_scene(np.random.default_rng(seed), 60)[0] for seed in range(3)]


def of_patches(image, **options):
    """The method of which nothing is known but its backbone: patches that are red enough."""
    predictor = MethodPredictor(
        lambda features: features.image[..., 0] > 0.2, HandcraftedBackbone(), {}, short_side=32
    )
    loaded = LoadedMethod(predictor, "reddest", "handcrafted", "b", "d", 32)
    return predictor([image])[0], MethodSegmenter(loaded, **options)(image)


def test_masks_are_finished_as_the_options_say():
    image = np.full((45, 64, 3), 90, np.uint8)
    image[:10, :, 0] = 0
    raw, mask = of_patches(image, refine="none")
    assert set(np.unique(raw)) == {0, 1}
    # Whatever it covers, a method has chosen its foreground.
    assert raw.mean() > 0.5
    np.testing.assert_array_equal(mask, raw)
    np.testing.assert_array_equal(of_patches(image)[1], postprocess("guided", image, raw))
    for invert in ("always", "auto"):
        np.testing.assert_array_equal(of_patches(image, refine="none", invert=invert)[1], 1 - raw)
    with pytest.raises(ValueError, match="unknown refine 'crf'"):
        of_patches(image, refine="crf")


def test_options_reach_the_method():
    segmenter = sempart_jax.load_method_segmenter(
        "lost", backbone="handcrafted", resolution=61, refine="none", invert="always", batch_size=2
    )
    assert isinstance(segmenter, sempart_jax.MethodSegmenter)
    assert (segmenter.refine, segmenter.invert) == ("none", "always")
    assert segmenter.predictor.batch_size == 2
    assert segmenter.predictor.network_input(SCENES[0]).shape == (64, 64, 3)
    assert segmenter.method.name == "lost"
    pictures = [Image.fromarray(scene) for scene in SCENES]
    for mask, scene in zip(segmenter(pictures), SCENES, strict=True):
        np.testing.assert_array_equal(mask, 1 - segmenter.predictor([scene])[0])


def test_files_and_defaults_reach_the_loader(monkeypatch, tmp_path):
    asked = []

    def load_method(method, backbone, **options):
        asked.append((method, backbone, options))
        raise FileNotFoundError

    monkeypatch.setattr(method_segmenter, "load_method", load_method)
    for options in ({}, {"weights": tmp_path / "w", "decoder": tmp_path / "d"}):
        with pytest.raises(FileNotFoundError):
            load_method_segmenter("found_multi", **options)
    common = {"short_side": 320, "batch_size": 8}
    files = {"weights": tmp_path / "w", "decoder": tmp_path / "d"}
    assert asked == [
        ("found_multi", "dino_vits8", {"weights": None, "decoder": None, **common}),
        ("found_multi", "dino_vits8", {**files, **common}),
    ]
    for options, message in (
        ({"refine": "crf"}, "unknown refine 'crf'"),
        ({"invert": "maybe"}, "unknown invert 'maybe'"),
        ({"resolution": 0}, "resolution must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            load_method_segmenter("lost", **options)
    assert len(asked) == 2, "mistyped options are told before anything is loaded"


def test_settings_change_with_all_that_masks_follow_from():
    segmenter = load_method_segmenter("lost", backbone="handcrafted", resolution=48)
    loaded = segmenter.method
    settings = segmenter.settings()
    assert settings.keys() == {"method", "network", "resolution", "refine", "invert"}
    assert json.loads(json.dumps(settings)) == settings
    others = [
        load_method_segmenter("tokencut", backbone="handcrafted", resolution=48),
        load_method_segmenter("lost", backbone="handcrafted", resolution=64),
        load_method_segmenter("lost", backbone="handcrafted", resolution=48, refine="none"),
        load_method_segmenter("lost", backbone="handcrafted", resolution=48, invert="auto"),
        *(
            MethodSegmenter(dataclasses.replace(loaded, **{part: "other"}))
            for part in ("backbone", "backbone_fingerprint", "decoder_fingerprint")
        ),
    ]
    for changed, other in zip(
        ("method", "resolution", "refine", "invert", "network", "network", "network"),
        others,
        strict=True,
    ):
        different = other.settings()
        assert {name for name in settings if settings[name] != different[name]} == {changed}
    same = load_method_segmenter("lost", backbone="handcrafted", resolution=50, batch_size=3)
    assert same.settings() == settings, "50 pixels are 48 to patches of 8"


def test_files_hold_the_masks_that_are_scored(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, scene in enumerate(SCENES):
        Image.fromarray(scene).resize((70 + 13 * i, 60)).save(photos / f"{i}.png")
    options = {"backbone": "handcrafted", "resolution": 48, "refine": "none"}
    segmenter = load_method_segmenter("tokencut", **options)
    summary = segment([str(photos)], tmp_path / "out", segmenter, outputs=["mask"])
    assert (summary.done, summary.failed) == (3, {})
    images = [read_image(photos / f"{i}.png") for i in range(3)]
    framed = [FramedImage(str(i), image, image.shape[:2]) for i, image in enumerate(images)]
    scored = method_origin("tokencut", "handcrafted", short_side=48).source(
        framed, PROTOCOLS["native"]
    )
    for i, mask in enumerate(scored):
        written = read_grey(tmp_path / f"out/masks/{i}.png")
        np.testing.assert_array_equal(written, mask * 255)
        assert 0 < mask.mean() < 1
    # Neither another method nor a network goes on in this folder.
    other = load_method_segmenter("lost", **options)
    for wrong, message in (
        (other, "was written with method = tokencut, now it is lost"),
        (red_segmenter(), "was written with method = tokencut, now it is None"),
    ):
        with pytest.raises(ValueError, match=message):
            segment([str(photos)], tmp_path / "out", wrong, outputs=["mask"])
    assert segment([str(photos)], tmp_path / "out", segmenter, outputs=["mask"]).skipped == 3
