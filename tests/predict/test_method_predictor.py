"""Methods without training as predictors for images of any size."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.found import background_mask
from sempart_jax.data.image_sizes import resize
from sempart_jax.kernels.normalization import normalize
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.predict import method_predictor
from sempart_jax.predict.method_predictor import MethodPredictor, load_method
from sempart_jax.predict.picture_segmenter import MaskPredictor
from sempart_jax.two_tricks.vit import VisionTransformer


def left_half_red(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    return image


def reddest(features):
    return features.image[..., 0] > 0.5


def red_predictor(method=reddest, **options):
    return MethodPredictor(method, HandcraftedBackbone(), {}, short_side=32, **options)


@pytest.fixture(scope="module")
def vit():
    """A small vision transformer and its parameters."""
    module = VisionTransformer(patch_size=8, width=24, depth=1, num_heads=3)
    return module, module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


@pytest.fixture
def small_backbones(monkeypatch, vit):
    """Every backbone's name but one stands for the small one; gives the weights asked for."""
    asked = []
    load_backbone = method_predictor.load_backbone

    def load(name, weights):
        asked.append(weights)
        return load_backbone(name, weights) if name == "handcrafted" else vit

    monkeypatch.setattr(method_predictor, "load_backbone", load)
    return asked


def write_decoder(path, kernel, bias=0.0):
    weight = np.asarray(kernel, np.float32).reshape(1, -1, 1, 1)
    np.savez(path, **{"decoder.weight": weight, "decoder.bias": np.float32([bias])})
    return path


def test_masks_are_those_of_the_grid_at_the_size_of_each_image():
    seen = []

    def watched(features):
        seen.append((features.keys.shape[:3], features.image.shape))
        assert features.class_attention is None
        return reddest(features)

    predictor = red_predictor(watched, batch_size=2)
    images = [left_half_red(*size) for size in ((64, 64), (30, 40), (32, 32), (128, 128))]
    masks = predictor(images)
    # Two batches of squares, the second filled up, and one of 4:3.
    assert seen == [
        ((2, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 5), (2, 4, 5, 3)),
    ]
    for image, mask in zip(images, masks, strict=True):
        assert mask.dtype == np.float32
        assert mask.shape == image.shape[:2]
        assert set(np.unique(mask)) == {0, 1}
    for index in (0, 2, 3):
        np.testing.assert_array_equal(masks[index], images[index][..., 0] > 0)
    assert predictor([]) == []


def test_its_three_steps_give_what_calling_gives():
    predictor = red_predictor(batch_size=4)
    assert isinstance(predictor, MaskPredictor)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((50, 50), (31, 45))]
    for image, called in zip(images, predictor(images), strict=True):
        seen = predictor.network_input(image)
        assert min(seen.shape[:2]) == 32
        (patches,) = predictor.start(seen[None])()
        assert patches.dtype == np.float32
        rows, columns = (side // 8 for side in seen.shape[:2])
        np.testing.assert_array_equal(patches, resize(seen, rows, columns)[..., 0] / 255 > 0.5)
        fitted = predictor.fit(patches, *image.shape[:2])
        np.testing.assert_array_equal(fitted, called)
        assert 0 < called.mean() < 1


@pytest.mark.parametrize("size", [(40, 40), (37, 53), (8, 9), (5, 3), (1, 1), (1, 200)])
def test_pixels_have_the_value_of_the_patch_that_they_lie_in(size):
    mask = (np.random.default_rng(0).random((8, 10)) > 0.5).astype(np.float32)
    fitted = MethodPredictor.fit(mask, *size)
    # The patch under a pixel's middle.
    rows, columns = (
        ((2 * np.arange(side) + 1) * patches) // (2 * side)
        for side, patches in zip(size, mask.shape, strict=True)
    )
    np.testing.assert_array_equal(fitted, mask[np.ix_(rows, columns)])
    assert fitted.dtype == np.float32
    assert fitted.flags.writeable


def test_masks_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (7, 32, 40, 3)).astype(np.uint8))
    coarse = np.stack([resize(each, 4, 5)[..., 0] > 127.5 for each in images])
    expected = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for batch_size in (1, 3, 7, 8):
        np.testing.assert_array_equal(red_predictor(batch_size=batch_size)(images), expected)


def test_smaller_last_batch_does_not_compile_anew(caplog):
    predictor = red_predictor(batch_size=4)
    images = list(np.zeros((5, 32, 32, 3), np.uint8))
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        predictor(images[:4])
        assert "Compiling" in caplog.text
        caplog.clear()
        predictor(images)
        predictor(images[:2])
        assert "Compiling" not in caplog.text


@pytest.mark.usefixtures("small_backbones")
def test_found_is_shown_the_class_token_of_the_normalised_image(vit):
    module, params = vit
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    (mask,) = load_method("found_multi", "dino_vits8", short_side=32).predictor([image])
    shown = normalize(jnp.asarray(image[None] / np.float32(255)))
    output = module.apply({"params": params}, shown, class_attention=True)
    (background,) = background_mask(output["keys"], output["class_attention"])
    expected = np.kron(~np.asarray(background), np.ones((8, 8)))
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.usefixtures("small_backbones")
def test_decoder_of_found_is_applied_to_the_keys(vit, tmp_path):
    module, params = vit
    kernel = np.random.default_rng(1).normal(size=24)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    keys = module.apply({"params": params}, normalize(jnp.asarray(image[None] / np.float32(255))))
    logits = np.asarray(keys["keys"], np.float64)[0] @ kernel
    bias = -float(np.median(logits)) + 1e-3
    decoder = write_decoder(tmp_path / "decoder.npz", kernel, bias)
    loaded = load_method("found_multi", "dino_vits8", decoder=decoder, short_side=32)
    (mask,) = loaded.predictor([image])
    np.testing.assert_array_equal(mask[::8, ::8], logits + bias > 0)
    without = load_method("found_multi", "dino_vits8", short_side=32)
    assert loaded.decoder_fingerprint != without.decoder_fingerprint


def test_weights_and_options_reach_backbone_and_predictor(small_backbones, tmp_path):
    loaded = load_method("lost", "dino_vits8", weights=tmp_path, short_side=61, batch_size=3)
    load_method("lost", "dino_vits8")
    assert small_backbones == [str(tmp_path), ""]
    assert loaded.predictor.batch_size == 3
    assert loaded.predictor.network_input(np.zeros((8, 8, 3), np.uint8)).shape == (64, 64, 3)
    assert (loaded.name, loaded.backbone, loaded.short_side) == ("lost", "dino_vits8", 61)
    assert loaded.backbone_fingerprint != load_method("lost", "handcrafted").backbone_fingerprint


def test_what_does_not_go_together_is_refused_before_the_first_image(small_backbones, tmp_path):
    decoder = write_decoder(tmp_path / "decoder.npz", np.ones(384))
    for arguments, message in (
        (("move", "handcrafted"), "unknown method 'move': choose one of tokencut, lost"),
        (("lost", "dino_vits8", decoder), "lost has no decoder: leave it out"),
        (("found_single", "handcrafted"), "the backbone handcrafted has no class token: choose"),
        (("found_multi", "handcrafted", decoder), "handcrafted has no class token: choose one of"),
        (("found_multi", "dino_vits8", decoder), "of width 384, but those of dino_vits8 have 24"),
    ):
        method, backbone, *rest = arguments
        with pytest.raises(ValueError, match=message):
            load_method(method, backbone, decoder=rest[0] if rest else None)
    # A small file is read before a large one is downloaded.
    before = len(small_backbones)
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load_method("found_multi", "dino_vits8", decoder=tmp_path / "absent.npz")
    assert len(small_backbones) == before
