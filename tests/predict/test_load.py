"""What is asked of a segmenter reaches it, and what cannot be is told before anything is loaded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sempart_jax
from sempart_jax.baselines.found import background_mask
from sempart_jax.baselines.saliency.priors import saliency_priors
from sempart_jax.data.image_sizes import resize
from sempart_jax.kernels.normalization import normalize
from sempart_jax.networks.model_file import write_model
from sempart_jax.predict import load
from sempart_jax.predict.load import load_method_segmenter, load_segmenter, network_segmenter
from sempart_jax.predict.predictor import stretch
from sempart_jax.two_tricks.vit import VisionTransformer
from tests.small_model import small_network

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
SHOWN = normalize(jnp.asarray(IMAGE[None] / np.float32(255)))
RAW = {"resolution": 32, "refine": "none"}


@pytest.fixture(scope="module")
def vit():
    """A small vision transformer and its parameters."""
    module = VisionTransformer(patch_size=8, width=24, depth=1, num_heads=3)
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


@pytest.fixture
def asked(monkeypatch, vit):
    """Every backbone's name but one stands for the small one; gives the weights asked for."""
    weights_asked = []
    load_backbone = load.load_backbone

    def small_backbone(name, weights, **_):
        weights_asked.append(weights)
        return load_backbone(name, weights) if name == "handcrafted" else vit

    monkeypatch.setattr(load, "load_backbone", small_backbone)
    return weights_asked


def write_decoder(path, kernel, bias=0.0):
    weight = np.asarray(kernel, np.float32).reshape(1, -1, 1, 1)
    np.savez(path, **{"decoder.weight": weight, "decoder.bias": np.float32([bias])})
    return path


def test_options_reach_the_network_and_its_finish(tmp_path):
    network = small_network()
    write_model(tmp_path / "model.safetensors", network)
    segmenter = sempart_jax.load_segmenter(
        tmp_path / "model.safetensors",
        backbone="handcrafted",
        resolution=17,
        refine="none",
        invert="always",
        batch_size=2,
    )
    assert isinstance(segmenter, sempart_jax.Segmenter)
    assert (segmenter.refine, segmenter.invert) == ("none", "always")
    # Rounded to the patch, and up to an image for each device.
    assert segmenter.predictor.network_input(IMAGE).shape == (16, 16, 3)
    assert segmenter.predictor.batch_size == 8
    variables = segmenter.network.variables
    jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(network.variables))
    assert network_segmenter(network).predictor.network_input(IMAGE).shape == (32, 32, 3)


def test_weights_and_backbone_reach_the_source(monkeypatch, tmp_path):
    loaded = []

    def load_network(source, *, backbone, weights):
        loaded.append((source, backbone, weights))
        return small_network()

    monkeypatch.setattr(load, "load_network", load_network)
    load_segmenter("head.pth", backbone="ibot_vits16", weights=tmp_path)
    assert loaded == [("head.pth", "ibot_vits16", tmp_path)]


def test_options_reach_the_method(asked, tmp_path):
    segmenter = load_method_segmenter(
        "lost", weights=tmp_path, resolution=61, refine="none", invert="always", batch_size=3
    )
    assert isinstance(segmenter, sempart_jax.Segmenter)
    assert (segmenter.refine, segmenter.invert) == ("none", "always")
    assert segmenter.predictor.batch_size == 3
    assert segmenter.predictor.network_input(IMAGE).shape == (64, 64, 3)
    default = load_method_segmenter("lost")
    assert asked == [str(tmp_path), ""]
    assert (default.refine, default.invert, default.predictor.batch_size) == ("guided", "never", 8)
    assert default.predictor.short_side == 320
    (mask,) = segmenter.predictor([IMAGE])
    np.testing.assert_array_equal(segmenter(IMAGE), 1 - mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refine": "crf"}, "unknown refine 'crf': choose one of none, guided, bilateral"),
        ({"invert": "maybe"}, "unknown invert 'maybe': choose one of auto, never, always"),
        ({"resolution": 0}, "resolution must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_mistyped_options_are_told_before_anything_is_loaded(asked, options, message):
    for load_any in (load_segmenter, load_method_segmenter):
        with pytest.raises(ValueError, match=message):
            load_any("lost", **options)
    assert asked == []


def test_missing_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no run in {tmp_path}"):
        load_segmenter(tmp_path)


@pytest.mark.usefixtures("asked")
def test_found_is_shown_the_class_token_of_the_normalised_image(vit):
    module, params = vit
    output = module.apply({"params": params}, SHOWN, class_attention=True)
    (background,) = background_mask(output["keys"], output["class_attention"])
    expected = np.kron(~np.asarray(background), np.ones((8, 8)))
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(load_method_segmenter("found_multi", **RAW)(IMAGE), expected)


@pytest.mark.usefixtures("asked")
def test_decoder_of_found_is_applied_to_the_keys(vit, tmp_path):
    module, params = vit
    kernel = np.random.default_rng(1).normal(size=24)
    keys = module.apply({"params": params}, SHOWN)["keys"]
    logits = np.asarray(keys, np.float64)[0] @ kernel
    bias = -float(np.median(logits)) + 1e-3
    decoder = write_decoder(tmp_path / "decoder.npz", kernel, bias)
    segmenter = load_method_segmenter("found_multi", decoder=decoder, **RAW)
    np.testing.assert_array_equal(segmenter(IMAGE)[::8, ::8], logits + bias > 0)
    # Parameters of backbone and decoder are told in what masks follow from.
    settings = segmenter.settings()["network"].split()
    without = load_method_segmenter("found_multi", **RAW).settings()["network"].split()
    handcrafted = load_method_segmenter("lost", backbone="handcrafted").settings()["network"]
    assert settings[:2] == without[:2]
    assert settings[2] != without[2]
    assert settings[1] != handcrafted.split()[1]


def test_what_does_not_go_together_is_refused_before_the_first_image(asked, tmp_path):
    decoder = write_decoder(tmp_path / "decoder.npz", np.ones(384))
    for method, backbone, given, message in (
        (
            "move",
            "handcrafted",
            None,
            "unknown method 'move': choose one of tokencut, maskcut, lost",
        ),
        ("lost", "dino_vits8", decoder, "lost has no decoder: leave it out"),
        ("found_single", "handcrafted", None, "backbone handcrafted has no class token: choose"),
        ("found_multi", "dino_vits8", decoder, "width 384, but those of dino_vits8 have 24"),
    ):
        with pytest.raises(ValueError, match=message):
            load_method_segmenter(method, backbone=backbone, decoder=given)
    # A small file is read before a large one is downloaded.
    before = len(asked)
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load_method_segmenter("found_multi", decoder=tmp_path / "absent.npz")
    assert len(asked) == before


def test_priors_see_an_image_at_128_pixels_and_load_nothing(asked):
    segmenter = load_method_segmenter("priors", refine="none")
    assert segmenter.predictor.short_side == 128
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    shown = resize(image, *segmenter.predictor.input_size(70, 90))
    assert shown.shape == (128, 171, 3)
    expected = stretch(saliency_priors(shown / np.float32(255))["mask"], 70, 90)
    np.testing.assert_array_equal(segmenter(image), expected)
    one, other = segmenter([image, image[:, ::-1]])
    np.testing.assert_array_equal(one, expected)
    assert not np.array_equal(other, expected)
    assert segmenter.settings() == {
        "method": "priors",
        "resolution": 128,
        "refine": "none",
        "invert": "never",
    }
    assert load_method_segmenter("priors", resolution=64).predictor.short_side == 64
    assert asked == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backbone": "dino_vits8"}, "priors has no backbone: leave backbone out"),
        ({"weights": "vit.npz"}, "priors has no backbone: leave weights out"),
        ({"features": "tokens"}, "priors has no backbone: leave features out"),
        ({"decoder": "decoder.npz"}, "priors has no decoder: leave it out"),
    ],
)
def test_priors_refuse_what_belongs_to_a_backbone(given, message):
    with pytest.raises(ValueError, match=message):
        load_method_segmenter("priors", **given)
