"""Parts of the PyTorch twin that the comparison of a whole step leaves out."""

import itertools

import pytest

pytest.importorskip("torch")

import jax
import jax.numpy as jnp
import numpy as np
import torch

from scripts.benchmarking import torch_augment, torch_losses
from scripts.benchmarking.torch_networks import ConvolutionBlock, SegmentationHead, load_flax
from scripts.benchmarking.torch_sempart import Sempart, make_optimizer, training_step
from sempart_jax.kernels.color_jitter import jitter
from sempart_jax.networks.names import Architecture
from sempart_jax.two_tricks.augment import Augmentation
from sempart_jax.two_tricks.filters import guided_filter

TINY = Architecture(patch_size=8, width=12, depth=2, num_heads=2)


@pytest.fixture(autouse=True)
def one_thread():
    """More threads than idle cores wait busily for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1)])
def test_jitter_equals_ours(order):
    image = np.random.default_rng(0).uniform(size=(9, 7, 3)).astype(np.float32)
    factors = [1.3, 0.7, 1.15, 0.08]
    expected = jitter(jnp.asarray(image), jnp.asarray(order), jnp.asarray(factors))
    found = torch_augment.jitter(torch.tensor(image).permute(2, 0, 1), list(order), factors)
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-6)


def test_augmentation_draws_every_change():
    torch.manual_seed(0)
    image = torch.rand(64, 3, 4, 6)

    def changed(**strength):
        nothing = {"flip_probability": 0.0, "jitter_probability": 0.0, "grayscale_probability": 0.0}
        augmentation = Augmentation(**{**nothing, **strength})
        return torch_augment.augment_batch(image, augmentation)

    assert torch.equal(changed(), image)
    assert torch.equal(changed(flip_probability=1.0), image.flip(-1))
    flipped = (changed(flip_probability=0.5) != image).flatten(1).any(1).float().mean()
    assert 0.25 < flipped < 0.75
    gray = changed(grayscale_probability=1.0)
    assert torch.equal(gray[:, 0], gray[:, 1])
    jittered = changed(jitter_probability=1.0)
    assert ((jittered - image).abs().flatten(1).amax(1) > 1e-3).all()
    assert jittered.min() >= 0
    assert jittered.max() <= 1


@pytest.mark.parametrize(("height", "width", "radius"), [(24, 31, 4), (9, 40, 9)])
def test_guided_filter_equals_ours(monkeypatch, height, width, radius):
    rng = np.random.default_rng(0)
    guide, src = rng.uniform(size=(2, 2, height, width, 1)).astype(np.float32)
    expected = np.asarray(jax.jit(guided_filter, static_argnums=2)(guide, src, radius))
    arguments = [torch.tensor(x).permute(0, 3, 1, 2) for x in (guide, src)]
    for way in (torch_losses._mean_by_sums, torch_losses._mean_by_pooling):
        if way is torch_losses._mean_by_pooling and 2 * radius + 1 > height:
            continue
        monkeypatch.setattr(torch_losses, "window_mean", way)
        found = torch_losses.guided_filter(*arguments, radius).permute(0, 2, 3, 1)
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_window_means_are_taken_by_the_way_that_suits_the_size(monkeypatch):
    for name in ("_mean_by_sums", "_mean_by_pooling"):
        monkeypatch.setattr(torch_losses, name, lambda x, radius, name=name: name)
    assert torch_losses.window_mean(torch.zeros(1, 1, 1024, 1023), 2) == "_mean_by_sums"
    assert torch_losses.window_mean(torch.zeros(1, 1, 1024, 1024), 2) == "_mean_by_pooling"


def test_only_the_pass_over_whole_images_moves_the_averages():
    torch.manual_seed(0)
    block = ConvolutionBlock(3, 4).train()
    x = torch.randn(2, 3, 6, 6)
    before = block.norm.running_mean.clone()
    teacher = block(x, track=False)
    assert torch.equal(block.norm.running_mean, before)
    student = block(x, track=True)
    assert not torch.equal(block.norm.running_mean, before)
    torch.testing.assert_close(teacher, student)
    assert not torch.allclose(block.eval()(x, track=False), student)


@pytest.mark.parametrize("corners", [None, [(0, 3), (16, 8)]])
def test_steps_change_the_head_alone_and_lower_the_loss(corners):
    torch.manual_seed(0)
    model = Sempart(TINY, radius=2)
    for parameter in model.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    optimizer = make_optimizer(model)
    optimizer.param_groups[0]["lr"] = 1e-3
    image = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4), (32, 32), mode="bilinear")
    frozen = [parameter.clone() for parameter in model.backbone.parameters()]
    totals = [float(training_step(model, optimizer, image, corners)["total"]) for _ in range(5)]
    assert totals[-1] < totals[0]
    assert all(map(torch.equal, frozen, model.backbone.parameters()))


def test_weights_that_do_not_fit_are_refused():
    head = SegmentationHead(12)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_flax(head, {"coarse_projection": {"bias": np.zeros(1, np.float32)}}, {})
    with pytest.raises(KeyError, match=r"coarse\.weight"):
        load_flax(head, {"coarse": {"kernel": np.zeros((64, 1), np.float32)}}, {})


def test_every_order_of_the_jitter_is_drawn(monkeypatch):
    seen = set()
    monkeypatch.setattr(
        torch_augment, "jitter", lambda image, order, factors: seen.add(tuple(order)) or image
    )
    torch.manual_seed(0)
    torch_augment.augment_batch(torch.rand(400, 3, 1, 1), Augmentation(jitter_probability=1.0))
    assert seen == set(itertools.permutations(range(4)))


def test_plain_pytorch_computes_the_same():
    image = torch.rand(2, 3, 32, 32)
    models = [Sempart(TINY, radius=2, plain=plain) for plain in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    fast, plain = (
        {
            **training_step(model, make_optimizer(model), image, [(0, 0), (9, 3)]),
            "mask": model.eval().predict(image),
        }
        for model in models
    )
    for name, value in fast.items():
        torch.testing.assert_close(plain[name], value, msg=name)


def test_plain_pytorch_has_channels_first_and_whole_attention():
    def operations(plain):
        model = Sempart(TINY, radius=2, plain=plain).eval()
        weight = model.head.stage_0.block_0.conv.weight
        with torch.profiler.profile() as profile:
            model.predict(torch.rand(1, 3, 32, 32))
        names = {event.key for event in profile.key_averages()}
        return weight.is_contiguous(), "aten::softmax" in names or "aten::_softmax" in names

    assert operations(plain=True) == (True, True)
    assert operations(plain=False) == (False, False)


def test_the_affinity_is_exact_and_what_follows_as_before():
    torch.set_float32_matmul_precision("high")
    try:
        with torch_losses.exact_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
