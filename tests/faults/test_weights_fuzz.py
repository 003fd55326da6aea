"""Weight files of strangers: whatever is in them ends in tensors or in a documented error.

``FUZZ_CASES`` sets the number of cases in all; ``make fuzz`` takes 5,000.
"""

import collections
import io
import json
import os
import pickle
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sempart_jax.networks.model_file import read_model
from sempart_jax.networks.model_format import is_model_file, read_tensors
from sempart_jax.networks.pretrained import load_backbone_params
from sempart_jax.networks.released import read_found_decoder, read_released_head, read_released_vit
from sempart_jax.networks.weight_files import read_state_dict
from tests.faults.peak_memory import peak_kilobytes
from tests.two_tricks.dino_reference import seeded_state_dict

if sys.platform == "linux":
    import resource

CASES = int(os.environ.get("FUZZ_CASES", "300"))
SUFFIXES = (".safetensors", ".npz", ".pth")
DOCUMENTED = (ValueError, FileNotFoundError, ModuleNotFoundError)
HEADROOM = 3 * 2**30
"""Bytes that reading may take, of addresses, not of memory: PyTorch reserves generously."""

LOADERS = (
    read_state_dict,
    read_released_head,
    read_released_vit,
    read_found_decoder,
    lambda path: load_backbone_params("dino_vits8", path),
    read_model,
    read_tensors,
)

tried: collections.Counter[str] = collections.Counter()


def fuzzed(share: float):
    """Run a test with its share of all cases."""
    return settings(
        max_examples=max(1, round(CASES * share)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def load(content: bytes, suffix: str) -> None:
    """Give a file to all loaders: tensors, or a documented error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"weights{suffix}"
        path.write_bytes(content)
        is_model_file(path)
        messages = []
        for loader in LOADERS:
            try:
                loader(path)
            except DOCUMENTED as error:
                messages.append(str(error))
        assert [message for message in messages if str(path) not in message] == []
        tried["files"] += 1
        tried["loads"] += len(LOADERS)
        tried["refused"] += len(messages)


@pytest.fixture(autouse=True, scope="module")
def bounded_memory():
    """Fail to allocate where a header's claim is believed."""
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + HEADROOM, before[1]))
    # The tests before this one may have held more: "5" starts the peak anew (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    peak = peak_kilobytes(os.getpid())
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    print("\nfuzzed:", ", ".join(f"{count} {what}" for what, count in tried.items()))
    # A file of some kilobytes does not fill the memory.
    assert peak_kilobytes(os.getpid()) - peak < 500 * 1024


def seeds() -> dict[str, bytes]:
    """Whole files of each format, which the cases change."""
    state = seeded_state_dict(patch_size=4, width=8, depth=1, grid=2)
    files = {".safetensors": safetensors.numpy.save(state)}
    packed = io.BytesIO()
    np.savez_compressed(packed, **state)
    files[".npz"] = packed.getvalue()
    try:
        import torch
    except ModuleNotFoundError:
        return files
    stored = io.BytesIO()
    torch.save({"model": {n: torch.from_numpy(t.copy()) for n, t in state.items()}}, stored)
    files[".pth"] = stored.getvalue()
    return files


SEEDS = seeds()


@fuzzed(0.2)
@given(st.binary(max_size=300), st.sampled_from(SUFFIXES))
def test_any_bytes(content, suffix):
    load(content, suffix)


@fuzzed(0.4)
@given(st.data())
def test_changed_files(data):
    suffix = data.draw(st.sampled_from(list(SEEDS)))
    content = bytearray(SEEDS[suffix])
    # Where the formats keep their heads and directories, and anywhere.
    places = st.one_of(
        st.integers(0, min(2000, len(content) - 1)),
        st.integers(max(0, len(content) - 2000), len(content) - 1),
        st.integers(0, len(content) - 1),
    )
    for start, new in data.draw(
        st.lists(st.tuples(places, st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)
    ):
        content[start : start + len(new)] = new
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    load(bytes(content[:cut]), suffix)


NAMES = st.one_of(
    st.sampled_from(
        [
            *("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight", "__metadata__"),
            *("blocks.0.attn.qkv.weight", "blocks.999999999999.norm1.weight", "conv_input.weight"),
            *("layers.0.0.weight", "layers.88888888.0.weight", "decoder.weight", "decoder.bias"),
            *("head/params/stage_0", "backbone/x", "module.x", "backbone.x", "x", ""),
        ]
    ),
    st.text(max_size=12),
)
SIZES = st.one_of(st.integers(0, 4), st.sampled_from([2**31, 2**40, 2**63, 10**30, -1]))
TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(
            [*("F32", "F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "?")]
        ),
        "shape": st.lists(SIZES, max_size=4),
        "data_offsets": st.one_of(
            st.tuples(SIZES, SIZES), st.integers(0, 64).map(lambda end: (0, end))
        ),
    }
)
METADATA = st.dictionaries(
    st.sampled_from(["format", "format_version", "backbone", "patch_size", "network", "queries"]),
    st.one_of(
        st.sampled_from(["sempart_jax model", "1", "dino_vits8", "handcrafted", "selfmask"]),
        st.text(max_size=6),
    ),
)


@fuzzed(0.2)
@given(
    st.dictionaries(NAMES, TENSORS, max_size=4),
    st.none() | METADATA,
    st.binary(max_size=64),
    st.none() | st.sampled_from([0, 2**20, 2**31, 2**62, 2**64 - 1]),
)
def test_headers_of_safetensors(tensors, metadata, body, length):
    header = dict(tensors)
    if metadata is not None:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    claimed = len(text) if length is None else length
    load(struct.pack("<Q", claimed) + text + body, ".safetensors")


def npz(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@fuzzed(0.1)
@given(
    st.sampled_from([*("<f4", "<f8", "<i8", "|b1", "|O", "<c8", "<U1000000", "|V8", "<m8", "??")]),
    st.lists(SIZES, max_size=4),
    NAMES,
    st.binary(max_size=64),
)
def test_headers_of_npz(dtype, shape, name, body):
    text = repr({"descr": dtype, "fortran_order": False, "shape": tuple(shape)}).encode() + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body
    load(npz({f"{name}.npy".replace("\0", ""): member}), ".npz")


VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.one_of(NAMES, st.integers(0, 3)), inner, max_size=3)
    ),
    max_leaves=8,
)


@fuzzed(0.1)
@given(VALUES, st.sampled_from([None, "model", "teacher"]))
def test_pickles_of_plain_data(value, wrapper):
    pytest.importorskip("torch")
    value = value if wrapper is None else {wrapper: value}
    load(pickle.dumps(value, protocol=2), ".pth")


def test_a_tiny_archive_that_unpacks_to_gigabytes_is_refused():
    packed = bytearray(npz({"x.npy": bytes(1000)}))
    # The directory of an archive tells the size: here four gigabytes.
    start = packed.rindex(b"PK\x01\x02")
    packed[start + 24 : start + 28] = struct.pack("<I", 2**32 - 2)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".npz", ".pth"):
            path = Path(folder) / f"bomb{suffix}"
            path.write_bytes(packed)
            with pytest.raises(ValueError, match=rf"bomb\{suffix} holds .* bytes that unpack to"):
                read_state_dict(path)


@pytest.fixture
def saved(tmp_path):
    torch = pytest.importorskip("torch")

    def save(content):
        torch.save(content, tmp_path / "odd.pth")
        return tmp_path / "odd.pth"

    return save


def test_a_tensor_larger_than_its_storage_is_refused(saved):
    torch = pytest.importorskip("torch")
    # Four bytes in the file, four terabytes as an array.
    path = saved({"weight": torch.ones(1).expand(2**20, 2**20)})
    with pytest.raises(ValueError, match=r"odd\.pth holds .* unpack to 4398046511104, far more"):
        read_state_dict(path)


def test_tensors_that_are_not_plain_are_named(saved):
    torch = pytest.importorskip("torch")
    eye = torch.eye(3)
    for tensor in (eye.to_sparse(), eye.to("meta"), torch.ones(2, dtype=torch.complex64).conj()):
        with pytest.raises(ValueError, match=r"odd\.pth.*'weight'"):
            read_state_dict(saved({"weight": tensor}))


def test_dicts_without_end_are_refused(saved):
    endless: dict = {}
    endless["model"] = endless
    with pytest.raises(ValueError, match=r"odd\.pth holds dicts within dicts without end"):
        read_state_dict(saved(endless))
    # Each level holds the one below it twice: 2^40 names of one number.
    tree: dict = {"a": 1}
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    with pytest.raises(ValueError, match=r"odd\.pth holds more than 100000 tensors"):
        read_state_dict(saved(tree))


def test_a_name_given_twice_is_refused(saved):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"odd\.pth holds 'a\.b' more than once"):
        read_state_dict(saved({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_no_numbers_are_named(tmp_path, value):
    state = seeded_state_dict(patch_size=4, width=8, depth=1, grid=2)
    state["norm.bias"] = state["norm.bias"].astype(np.float64)
    state["norm.bias"][0] = value
    np.savez(tmp_path / "vit.npz", **state)
    with pytest.raises(ValueError, match=r"(?s)vit\.npz.*with NaN or infinity: norm\.bias"):
        read_released_vit(tmp_path / "vit.npz")


def test_an_absurd_index_is_a_tensor_that_is_not_known(tmp_path):
    state = seeded_state_dict(patch_size=4, width=8, depth=1, grid=2)
    state["blocks.99999999999.norm1.weight"] = state["norm.bias"]
    np.savez(tmp_path / "vit.npz", **state)
    with pytest.raises(ValueError, match=r"(?s)not known: blocks\.99999999999\.norm1\.weight"):
        read_released_vit(tmp_path / "vit.npz")


def test_a_type_that_numpy_lacks_is_told(tmp_path):
    tensor = np.zeros(3, ml_dtypes.float8_e4m3fn)
    content = safetensors.numpy.save({"backbone/x": tensor.view(np.uint8)})
    path = tmp_path / "model.safetensors"
    for kind in (b"F8_E4M3", b"F8_E5M2"):
        header = content[8:].split(b"}}")[0].replace(b'"U8"', b'"%s"' % kind) + b"}}"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(3))
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            read_tensors(path)
