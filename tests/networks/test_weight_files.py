import argparse
import json
import re
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from sempart_jax.networks.porting import drop_projection_head, port_vit
from sempart_jax.networks.weight_files import read_state_dict
from tests.two_tricks import dino_reference


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    return dino_reference.seeded_state_dict(patch_size=4, width=8, depth=1, grid=2)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def tensors(torch, state):
    return {name: torch.from_numpy(tensor.copy()) for name, tensor in state.items()}


def test_safetensors_and_npz_round_trip_without_pytorch(tmp_path, state, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    state["batches"] = np.asarray(3, np.int64)
    safetensors.numpy.save_file(state, tmp_path / "vit.safetensors")
    np.savez(tmp_path / "vit.npz", **state)
    assert_same(read_state_dict(tmp_path / "vit.safetensors"), state)
    assert_same(read_state_dict(str(tmp_path / "vit.npz")), state)


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin"])
def test_pytorch_round_trip(tmp_path, state, torch, suffix):
    path = tmp_path / f"vit.{suffix}"
    state["batches"] = np.asarray(3, np.int64)
    torch.save(tensors(torch, state), path)
    assert_same(read_state_dict(path), state)


def test_half_precision_becomes_float32(tmp_path, torch):
    exact = np.asarray([1.5, -2.25, 3.0], np.float32)  # bfloat16 holds these exactly
    safetensors.numpy.save_file(
        {
            "bfloat16": exact.astype(ml_dtypes.bfloat16),
            "float16": exact.astype(np.float16),
            "float64": exact.astype(np.float64),
        },
        tmp_path / "half.safetensors",
    )
    torch.save(
        {
            "bfloat16": torch.nn.Parameter(torch.from_numpy(exact).bfloat16()),
            "float16": torch.from_numpy(exact).half(),
            "float64": torch.from_numpy(exact).double(),
        },
        tmp_path / "half.pth",
    )
    for file in ("half.safetensors", "half.pth"):
        assert_same(
            read_state_dict(tmp_path / file),
            dict.fromkeys(("bfloat16", "float16", "float64"), exact),
        )


def test_bfloat16_is_read_from_an_archive_of_numpy(tmp_path):
    # NumPy has no name for it, and writes two bytes of no kind.
    exact = np.asarray([1.5, -2.25, 3.0], np.float32)
    np.savez(tmp_path / "half.npz", weight=exact.astype(ml_dtypes.bfloat16))
    assert_same(read_state_dict(tmp_path / "half.npz"), {"weight": exact})


def test_whole_self_supervised_checkpoint_gives_the_teacher(tmp_path, state, torch):
    teacher = {f"backbone.{name}": tensor for name, tensor in tensors(torch, state).items()}
    teacher |= {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_g": torch.ones(2, 1)}
    student = {f"module.{name}": tensor + 1 for name, tensor in teacher.items()}
    arguments = argparse.Namespace(arch="vit_small", patch_size=4)
    torch.save(
        {"student": student, "teacher": teacher, "epoch": 100, "args": arguments},
        tmp_path / "checkpoint.pth",
    )
    found = read_state_dict(tmp_path / "checkpoint.pth")
    assert {"head.mlp.0.weight", "head.last_layer.weight_g"} < found.keys()
    assert_same(drop_projection_head(found), state)
    port_vit(drop_projection_head(found))


@pytest.mark.parametrize("wrapper", ["segmenter_state_dict", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_wrappers_and_prefixes_are_taken_off(tmp_path, state, torch, wrapper, prefix):
    wrapped = {f"{prefix}{name}": tensor for name, tensor in tensors(torch, state).items()}
    torch.save({wrapper: {"state_dict": wrapped}, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert_same(read_state_dict(tmp_path / "checkpoint.pth"), state)


@pytest.mark.parametrize(
    "wrappers",
    [
        *("teacher.", "student.", "model.", "encoder.", "_orig_mod."),
        *("teacher.backbone.", "model.module.", "module._orig_mod.backbone."),
    ],
)
def test_wrappers_that_all_names_share_are_taken_off(tmp_path, state, wrappers):
    np.savez(tmp_path / "a.npz", **{f"{wrappers}{name}": x for name, x in state.items()})
    found = read_state_dict(tmp_path / "a.npz")
    assert_same(found, state)
    port_vit(found)


@pytest.mark.parametrize("head", ["head", "dino_head", "ibot_head"])
def test_a_wrapper_around_backbone_and_projection_head_is_taken_off(tmp_path, state, head):
    whole = {f"teacher.backbone.{name}": x for name, x in state.items()}
    whole[f"teacher.{head}.mlp.0.weight"] = np.ones((2, 2), np.float32)
    np.savez(tmp_path / "a.npz", **whole)
    assert_same(drop_projection_head(read_state_dict(tmp_path / "a.npz")), state)


def test_words_that_not_all_names_share_belong_to_the_names(tmp_path):
    # Those of transformers' files.
    names = ["embeddings.cls_token", "encoder.layer.0.weight", "model.norm.weight"]
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, np.ones(1, np.float32)))
    assert list(read_state_dict(tmp_path / "a.npz")) == names


def test_words_that_the_names_of_one_file_of_several_share_belong_to_the_names(tmp_path):
    names = ["embeddings.cls_token", "encoder.layer.0.weight"]
    for name in names:
        safetensors.numpy.save_file(
            {name: np.ones(1, np.float32)}, tmp_path / f"{name}.safetensors"
        )
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in names}}))
    assert list(read_state_dict(index)) == names


def test_a_name_that_is_one_with_another_without_their_wrappers_is_refused(tmp_path):
    twice = dict.fromkeys(("teacher.backbone.weight", "teacher.weight"), np.ones(1, np.float32))
    np.savez(tmp_path / "a.npz", **twice)
    with pytest.raises(ValueError, match=r"a\.npz holds tensors of one name"):
        read_state_dict(tmp_path / "a.npz")


def test_prefixes_go_only_from_the_start_of_a_name(tmp_path):
    np.savez(tmp_path / "a.npz", **{"module.neck.module.weight": np.ones(1, np.float32)})
    assert list(read_state_dict(tmp_path / "a.npz")) == ["neck.module.weight"]


def test_a_name_under_two_prefixes_is_refused(tmp_path):
    twice = dict.fromkeys(("module.weight", "backbone.weight"), np.ones(1, np.float32))
    np.savez(tmp_path / "a.npz", **twice)
    with pytest.raises(ValueError, match=r"a\.npz holds 'weight' more than once"):
        read_state_dict(tmp_path / "a.npz")


def test_released_found_decoder_reads_on_a_machine_without_cuda(reference_data, torch):
    path = reference_data.parent / "weights" / "found_decoder_weights.pt"
    if not path.exists():
        pytest.skip(f"released weights not found: {path}")
    found = read_state_dict(path)
    shapes = {name: tensor.shape for name, tensor in found.items()}
    assert shapes == {"decoder.weight": (1, 384, 1, 1), "decoder.bias": (1,)}
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float32)}


def test_missing_pytorch_is_told_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "vit.pth"
    path.write_bytes(b"PK")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sempart_jax\[torch\]'"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "failure",
    [
        "raise ImportError('libtorch_cpu.so: cannot open shared object file')",
        "raise OSError('libcudart.so.12: cannot open shared object file')",
        "raise AttributeError('module numpy has no attribute x')",
        "import a_module_that_pytorch_needs",
    ],
)
def test_a_broken_pytorch_is_not_taken_for_a_damaged_or_missing_one(tmp_path, monkeypatch, failure):
    (tmp_path / "torch.py").write_text(failure)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    path = tmp_path / "vit.pth"
    path.write_bytes(b"PK")
    with pytest.raises(ModuleNotFoundError) as caught:
        read_state_dict(path)
    told = str(caught.value)
    assert re.search(r"vit\.pth is a PyTorch file, .* cannot be imported \(\w+Error: ", told)
    assert str(caught.value.__cause__) in told
    assert "download" not in told
    assert "not installed" not in told


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "pth"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: download it again"),
        (b"\n<!DOCTYPE html><html>quota exceeded</html>", "holds a web page instead of weights"),
        (b"<html lang='en'>", "holds a web page instead of weights"),
        (b"<?xml version='1.0'?><Error/>", "holds an XML message instead of weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "holds a Git LFS pointer instead"),
        (b"\x00\x01\x02\x03" * 100, "it is damaged, cut short or of another format"),
    ],
)
def test_files_that_are_no_weights_are_named(tmp_path, suffix, content, message, request):
    if suffix == "pth":
        request.getfixturevalue("torch")
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"weights\.{suffix} .*{message}"):
        read_state_dict(path)


def test_a_header_length_that_reads_like_markup_is_no_web_page(tmp_path):
    # safetensors begins with its header's length: here the bytes of a space and of "<".
    length = int.from_bytes(b" <", "little")
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + np.float32(1.5).tobytes())
    assert_same(read_state_dict(path), {"a": np.asarray([1.5], np.float32)})


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "pth"])
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.97])
def test_a_file_cut_short_is_named(tmp_path, state, suffix, fraction, request):
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        safetensors.numpy.save_file(state, path)
    elif suffix == "npz":
        np.savez_compressed(path, **state)
    else:
        torch = request.getfixturevalue("torch")
        torch.save(tensors(torch, state), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match=rf"weights\.{suffix} cannot be read .*damaged, cut short"):
        read_state_dict(path)


def test_a_damaged_archive_member_is_named(tmp_path, state):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, **state)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("pos_embed.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 60 : start + 100] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.npz cannot be read .*damaged"):
        read_state_dict(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_damage_anywhere_in_a_pytorch_file_is_named_or_harmless(tmp_path, state, torch, legacy):
    path = tmp_path / "weights.pth"
    torch.save(tensors(torch, state), path, _use_new_zipfile_serialization=not legacy)
    whole, messages = path.read_bytes(), []
    for start in range(0, 600, 3):
        path.write_bytes(whole[:start] + b"\xff" + whole[start + 1 :])
        try:
            read_state_dict(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(str(path) in message for message in messages)


def test_pickled_code_is_never_run(tmp_path, torch):
    class Planted:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'run')!r}, 'w')",))

    torch.save({"weight": Planted()}, tmp_path / "planted.pth")
    np.savez(tmp_path / "planted.npz", weight=np.asarray(Planted(), dtype=object))
    for file in ("planted.pth", "planted.npz"):
        with pytest.raises(ValueError, match=f"{file} cannot be read"):
            read_state_dict(tmp_path / file)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "weight": None}, "'epoch' is a int, expected a tensor"),
        ([1, 2], "holds a list, expected a dict of tensors"),
        ({}, "holds no tensors"),
        ({"model": {}}, "holds no tensors"),
    ],
)
def test_checkpoints_without_tensors_are_refused(tmp_path, torch, content, message):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=rf"odd\.pth.*{message}"):
        read_state_dict(tmp_path / "odd.pth")


def test_an_archive_of_text_is_refused(tmp_path):
    np.savez(tmp_path / "text.npz", name=np.asarray(["a", "b"]))
    with pytest.raises(ValueError, match=r"text\.npz: 'name' has dtype <U1, expected numbers"):
        read_state_dict(tmp_path / "text.npz")


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "single.npy", np.ones(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with pytest.raises(ValueError, match=r"single\.npz cannot be read as \.npz"):
        read_state_dict(tmp_path / "single.npz")


def test_unknown_endings_and_missing_files_are_named(tmp_path):
    (tmp_path / "vit.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"vit\.h5 ends in '\.h5': expected one of \.safetensors"):
        read_state_dict(tmp_path / "vit.h5")
    for missing in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"weight file not found: {missing}"):
            read_state_dict(missing)
