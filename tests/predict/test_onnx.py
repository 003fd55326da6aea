"""Networks as ONNX files: the same masks without JAX, in an environment of their own."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.predict.load import network_segmenter
from sempart_jax.runs.load_network import load_network
from tests.small_model import small_network
from tests.two_tricks.small_network import NETWORK, seeded_variables

RNG = np.random.default_rng(0)


def vit():
    """A small vision transformer with a head of random weights."""
    backbone, head = seeded_variables()
    return TrainedNetwork(NETWORK, backbone, dict(head), 24, "tiny", "float32", "drawn")


@pytest.mark.parametrize(
    ("network", "size", "options"),
    [
        (lambda: load_network("builtin"), (64, 64), {"resolution": 64}),
        (vit, (24, 24), {"invert": "auto"}),
        (vit, (24, 32), {"refine": "none", "invert": "always"}),
    ],
)
def test_masks_are_those_of_the_segmenter(tmp_path, network, size, options):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    segmenter = network_segmenter(network(), **options)
    segmenter.export(tmp_path / "model.onnx", size=size)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 3):
        images = RNG.integers(0, 256, (count, *size, 3), np.uint8)
        # With something to sharpen, and each another mean.
        images[:, 8:20, 6:18] //= 2 + np.arange(count, dtype=np.uint8)[:, None, None, None]
        (masks,) = session.run(["mask"], {"image": images})
        expected = segmenter(list(images))
        assert masks.dtype == np.float32
        np.testing.assert_allclose(masks, np.stack(expected), atol=1e-4)
        assert np.ptp(masks) > 1e-2
    code = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
shape = [1, *session.get_inputs()[0].shape[1:]]
assert session.run(None, {"image": np.zeros(shape, np.uint8)})[0].shape == tuple(shape[:3])
assert not {"jax", "flax", "sempart_jax"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.onnx"], check=True, timeout=300)


def test_what_cannot_be_converted_leaves_no_file(tmp_path, monkeypatch):
    def to_onnx(*_, **__):
        raise NotImplementedError("no such primitive")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "jax2onnx", SimpleNamespace(to_onnx=to_onnx))
    with pytest.raises(ValueError, match=r"cannot convert this network \(drawn\): no such primit"):
        network_segmenter(small_network()).export(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, {"size": (24, 24)}, r"sees images at 32x32, .*got \(24, 24\): give one of them"),
        ({}, {"dtype": "bfloat16"}, "holds its weights in float32, got dtype 'bfloat16'"),
        ({"refine": "bilateral"}, {}, "'bilateral' cannot be in an ONNX file: .* none, guided"),
    ],
)
def test_what_a_file_cannot_hold_is_told(tmp_path, options, arguments, message):
    segmenter = network_segmenter(small_network(), **options)
    with pytest.raises(ValueError, match=message):
        segmenter.export(tmp_path / "model.onnx", **arguments)


def test_a_folder_has_no_size(tmp_path):
    with pytest.raises(ValueError, match=r"size is for a file that ends in \.onnx"):
        network_segmenter(small_network()).export(tmp_path / "folder", size=(32, 32))


def test_a_file_that_is_there_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(ValueError, match="exists: remove it, or export to another file"):
        network_segmenter(small_network()).export(tmp_path / "model.onnx")


def test_a_missing_library_is_told_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sempart_jax\[onnx\]'"):
        network_segmenter(small_network()).export(tmp_path / "model.onnx")
