"""Operations counted from a program: against XLA's own count and against the formula of a ViT."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from scripts.benchmarking.product_count import Passes, count_passes, count_products, count_work
from sempart_jax.networks.names import BACKBONES


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolve(image, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(image, kernel, (2, 2), "VALID", dimension_numbers=numbers)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda a, b: a @ b, [shape(3, 5), shape(5, 7)]),
        (lambda a, b: jnp.einsum("bij,bkj->bik", a, b), [shape(2, 3, 5), shape(2, 7, 5)]),
        (convolve, [shape(2, 9, 9, 3), shape(3, 3, 3, 4)]),
    ],
)
def test_products_count_as_for_xla(function, arguments):
    expected = jax.jit(function).lower(*arguments).cost_analysis()["flops"]
    assert count_products(function, *arguments) == expected > 0


def test_loops_count_each_turn_and_branches_the_largest():
    once = 2 * 4**3

    def scanned(x):
        return lax.scan(lambda carry, _: (carry @ carry, None), x, length=3)[0]

    def branched(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert count_products(scanned, shape(4, 4)) == 3 * once
    assert count_products(branched, shape(4, 4)) == 2 * once
    assert count_products(jax.jit(jax.checkpoint(scanned)), shape(4, 4)) == 3 * once
    with pytest.raises(ValueError, match="number of turns"):
        count_products(
            lambda x: lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x, x), shape(4, 4)
        )


def test_what_no_result_follows_from_does_not_count():
    def dropped(x):
        unused = x @ x
        return x + 1, unused

    assert count_products(lambda x: dropped(x)[0], shape(4, 4)) == 0
    assert count_products(dropped, shape(4, 4)) == 2 * 4**3


def test_a_backbone_counts_by_the_formula():
    side, architecture = 64, BACKBONES["vit_tiny8"]
    patches, width = (side // 8) ** 2, architecture.width
    tokens = patches + 1
    # Query, key and value; both products of attention; its output; the MLP of four times the width.
    block = 2 * tokens * width**2 * (3 + 1 + 4 + 4) + 2 * 2 * tokens**2 * width
    embedding = 2 * patches * 8 * 8 * 3 * width
    last = 2 * tokens * width**2 * 3
    assert count_passes("vit_tiny8", side).backbone == embedding + 11 * block + last


def test_a_step_at_the_papers_size():
    passes = count_passes("dino_vits8", 320)
    assert [round(count / 1e9) for count in passes] == [107, 77]
    assert round(count_work("tricks", passes) / 1e9) == 524


def test_works_are_made_of_passes():
    passes = Passes(backbone=100, head=1)
    counts = {work: count_work(work, passes) for work in ("tricks", "baseline", "refined", "fine")}
    assert counts == {"tricks": 204, "baseline": 103, "refined": 101, "fine": 101}
