import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempart_jax.networks.porting import drop_projection_head, port_head, port_vit
from tests.two_tricks import dino_reference


def vit_state() -> dict[str, np.ndarray]:
    return dino_reference.seeded_state_dict(patch_size=8, width=16, depth=3, grid=4)


def head_state(channels: int = 48, stages: int = 3, counters: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "conv_input.weight": (64, channels, 1, 1),
        "conv_input.bias": (64,),
        "conv_coarse.weight": (1, 64, 1, 1),
        "conv_coarse.bias": (1,),
        "conv_final.weight": (1, 131, 1, 1),
        "conv_final.bias": (1,),
    }
    for layer in ("inp_transformer.layers.0", "inp_transformer.layers.1"):
        shapes |= {
            f"{layer}.0.norm.weight": (64,),
            f"{layer}.0.norm.bias": (64,),
            f"{layer}.0.fn.to_qkv.weight": (384, 64),
            f"{layer}.0.fn.to_out.0.weight": (64, 128),
            f"{layer}.0.fn.to_out.0.bias": (64,),
            f"{layer}.1.norm.weight": (64,),
            f"{layer}.1.norm.bias": (64,),
            f"{layer}.1.fn.net.0.weight": (64, 64),
            f"{layer}.1.fn.net.0.bias": (64,),
            f"{layer}.1.fn.net.3.weight": (64, 64),
            f"{layer}.1.fn.net.3.bias": (64,),
        }
    blocks = [("layers.0", 0, 67, 192), ("layers.1", 0, 195, 128)]
    blocks += [(f"layers.{stage}", 0, 131, 128) for stage in range(2, stages)]
    blocks += [(f"layers.{stages - 1}", 3, 128, 128)]
    for stage, index, inputs, outputs in blocks:
        shapes[f"{stage}.{index}.weight"] = (outputs, inputs, 3, 3)
        norms = ("weight", "bias", "running_mean", "running_var")
        for name in (f"{index}.bias", *(f"{index + 1}.{part}" for part in norms)):
            shapes[f"{stage}.{name}"] = (outputs,)
    state = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    for name in (name for name in shapes if name.endswith("running_var")):
        state[name] = np.abs(state[name])
    if counters:
        for stage, index, _, _ in blocks:
            state[f"{stage}.{index + 1}.num_batches_tracked"] = np.asarray(7, np.int64)
    return state


def flat(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def test_vit_tensors_arrive_turned_and_complete():
    state = vit_state()
    params = flat(port_vit(state))
    assert sum(leaf.size for leaf in params.values()) == sum(t.size for t in state.values())
    assert len(params) == len(state)
    assert {leaf.dtype for leaf in params.values()} == {np.dtype(np.float32)}
    for target, expected in {
        "class_token": state["cls_token"],
        "position_embedding": state["pos_embed"],
        "patch_embedding/bias": state["patch_embed.proj.bias"],
        "block_2/attention_norm/scale": state["blocks.2.norm1.weight"],
        "block_2/query_key_value/kernel": state["blocks.2.attn.qkv.weight"].T,
        "block_1/attention_output/kernel": state["blocks.1.attn.proj.weight"].T,
        "block_1/mlp_norm/bias": state["blocks.1.norm2.bias"],
        "block_0/mlp_hidden/kernel": state["blocks.0.mlp.fc1.weight"].T,
        "block_0/mlp_output/bias": state["blocks.0.mlp.fc2.bias"],
        "norm/scale": state["norm.weight"],
    }.items():
        np.testing.assert_array_equal(params[target], expected, err_msg=target)
    kernel = params["patch_embedding/kernel"]
    assert kernel.shape == (8, 8, 3, 16)
    assert kernel[2, 5, 1, 7] == state["patch_embed.proj.weight"][7, 1, 2, 5]


def test_a_vit_that_transformers_holds_in_memory_is_known():
    state = vit_state()
    renamed = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            parts = np.split(tensor, 3)
            for part, values in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                renamed[name.replace("attn.qkv", f"attention.{part}")] = values
        else:
            renamed[name.replace("attn.proj", "attention.o_proj")] = tensor
    replaced = {
        "blocks.": "layers.",
        "norm1.": "layernorm_before.",
        "norm2.": "layernorm_after.",
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
    }
    for old, new in replaced.items():
        renamed = {name.replace(old, new): tensor for name, tensor in renamed.items()}
    jax.tree.map(np.testing.assert_array_equal, port_vit(renamed), port_vit(state))


@pytest.mark.parametrize(("channels", "stages"), [(384, 3), (384, 4), (768, 2), (32, 5)])
@pytest.mark.parametrize("counters", [True, False])
def test_head_tensors_arrive_turned_and_complete(channels, stages, counters):
    state = head_state(channels, stages, counters)
    variables = port_head(state)
    leaves = flat(variables)
    floats = {name: t for name, t in state.items() if t.dtype == np.float32}
    assert variables.keys() == {"params", "batch_stats"}
    assert len(leaves) == len(floats)
    assert sum(leaf.size for leaf in leaves.values()) == sum(t.size for t in floats.values())
    if (channels, stages) == (384, 3):
        assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 748_165
    last = f"stage_{stages - 1}"
    for target, expected in {
        "params/input_projection/kernel": state["conv_input.weight"][:, :, 0, 0].T,
        "params/coarse_projection/bias": state["conv_coarse.bias"],
        "params/fine_projection/kernel": state["conv_final.weight"][:, :, 0, 0].T,
        "params/transformer_1/query_key_value/kernel": state[
            "inp_transformer.layers.1.0.fn.to_qkv.weight"
        ].T,
        "params/transformer_0/attention_output/kernel": state[
            "inp_transformer.layers.0.0.fn.to_out.0.weight"
        ].T,
        "params/transformer_0/attention_norm/scale": state[
            "inp_transformer.layers.0.0.norm.weight"
        ],
        "params/transformer_0/mlp_norm/bias": state["inp_transformer.layers.0.1.norm.bias"],
        "params/transformer_1/mlp_hidden/bias": state["inp_transformer.layers.1.1.fn.net.0.bias"],
        "params/transformer_1/mlp_output/kernel": state[
            "inp_transformer.layers.1.1.fn.net.3.weight"
        ].T,
        "params/stage_0/block_0/conv/kernel": state["layers.0.0.weight"].transpose(2, 3, 1, 0),
        f"params/{last}/block_1/conv/bias": state[f"layers.{stages - 1}.3.bias"],
        f"params/{last}/block_1/norm/scale": state[f"layers.{stages - 1}.4.weight"],
        f"batch_stats/{last}/block_1/norm/mean": state[f"layers.{stages - 1}.4.running_mean"],
        "batch_stats/stage_0/block_0/norm/var": state["layers.0.1.running_var"],
    }.items():
        np.testing.assert_array_equal(leaves[target], expected, err_msg=target)


@pytest.mark.parametrize(
    ("archive", "prefix"),
    [("head", "param/"), ("train_baseline", "head/"), ("train_tricks", "head/")],
)
def test_released_head_names_are_known(golden, archive, prefix):
    values = golden(archive)
    state = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
    leaves = flat(port_head(state))
    assert len(leaves) == len(state) == 52
    np.testing.assert_array_equal(
        leaves["params/stage_2/block_1/conv/kernel"],
        state["layers.2.3.weight"].transpose(2, 3, 1, 0),
    )


def without(state, name):
    del state[name]


def with_extra(state, name):
    state[name] = np.zeros((2, 5), np.float32)


def with_shape(state, name):
    state[name] = np.zeros((9, 1), np.float32)


def with_nan(state, name):
    state[name] = np.where(np.arange(state[name].size).reshape(state[name].shape) == 3, np.nan, 1.0)


@pytest.mark.parametrize("name", list(vit_state()))
def test_each_missing_misshapen_or_infinite_vit_tensor_is_named(name):
    shape = str(vit_state()[name].shape).replace("(", r"\(").replace(")", r"\)")
    for spoil, message in (
        (without, f"missing: {name} "),
        (with_shape, rf"of another shape: {name}: expected .*, found \(9, 1\)"),
        (with_nan, f"with NaN or infinity: {name}$"),
    ):
        state = vit_state()
        spoil(state, name)
        with pytest.raises(ValueError, match=message) as raised:
            port_vit(state)
        if spoil is with_shape and name not in ("patch_embed.proj.weight", "pos_embed"):
            assert raised.match(f"expected {shape}")
        assert str(raised.value).count("\n") == 1, "nothing else is wrong"


@pytest.mark.parametrize("name", [n for n, t in head_state().items() if t.dtype == np.float32])
def test_each_missing_or_misshapen_head_tensor_is_named(name):
    for spoil, message in (
        (without, f"missing: {name} "),
        (with_shape, rf"of another shape: {name}: expected .*, found \(9, 1\)"),
    ):
        state = head_state()
        spoil(state, name)
        with pytest.raises(ValueError, match=message) as raised:
            port_head(state)
        assert str(raised.value).count("\n") == 1, "nothing else is wrong"


@pytest.mark.parametrize("port", [port_vit, port_head])
@pytest.mark.parametrize("name", ["fc.weight", "blocks_0", "layers.0.2.num_batches_tracked"])
def test_tensors_that_are_not_known_are_named(port, name):
    state = vit_state() if port is port_vit else head_state()
    with_extra(state, name)
    with pytest.raises(ValueError, match=rf"not known: {name} \(2, 5\)"):
        port(state)


def test_everything_wrong_is_told_at_once():
    state = vit_state()
    without(state, "norm.bias")
    with_extra(state, "adapter_tokens")
    with_shape(state, "blocks.1.norm1.weight")
    with_nan(state, "blocks.2.attn.qkv.weight")
    with pytest.raises(ValueError, match="vision transformer") as raised:
        port_vit(state)
    for part in (
        r"missing: norm.bias \(16,\)",
        r"not known: adapter_tokens \(2, 5\)",
        r"of another shape: blocks.1.norm1.weight: expected \(16,\), found \(9, 1\)",
        "with NaN or infinity: blocks.2.attn.qkv.weight",
    ):
        assert raised.match(part)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.inf, "with NaN or infinity"),
        (-np.inf, "with NaN or infinity"),
        (np.nan, "with NaN or infinity"),
        (-1e-6, "of negative variances"),
    ],
)
def test_a_head_tensor_that_is_not_finite_is_named(value, kind):
    state = head_state()
    state["layers.2.4.running_var"][5] = value
    with pytest.raises(ValueError, match=rf"{kind}: layers\.2\.4\.running_var$"):
        port_head(state)


@pytest.mark.parametrize("port", [port_vit, port_head])
def test_weights_of_another_kind_are_refused(port):
    for state in (
        {},
        {"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)},
        head_state() | vit_state(),
    ):
        with pytest.raises(ValueError, match="the weights are not those of a"):
            port(state)


def test_a_backbone_without_blocks_is_refused():
    state = {k: v for k, v in vit_state().items() if not k.startswith("blocks.")}
    with pytest.raises(ValueError, match=r"missing: blocks\.0\.norm1\.weight"):
        port_vit(state)


names = st.text(st.sampled_from("abn.02"), min_size=1, max_size=12)


@given(
    kept=st.sets(names | names.map("header.mlp.{}".format) | names.map("blocks.0.mlp.{}".format)),
    dropped=st.sets(
        st.tuples(
            st.sampled_from(
                ["mlp", "mlp2", "last_layer", "last_layer2", "last_norm", "last_norm2"]
            ),
            names,
        ).map("head.{0[0]}.{0[1]}".format)
    ),
)
def test_only_projection_heads_are_dropped(kept, dropped):
    state = {name: np.zeros(1, np.float32) for name in kept | dropped}
    assert drop_projection_head(state).keys() == kept


def test_a_classifier_is_not_dropped_silently():
    state = {"head.weight": np.zeros((1000, 16), np.float32)}
    assert drop_projection_head(state).keys() == {"head.weight"}
