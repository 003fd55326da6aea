import numpy as np

from sempart_jax.kernels.scales import otsu, unit_range


def test_values_that_differ_by_rounding_alone_have_no_scale():
    np.testing.assert_allclose(unit_range(np.array([3.0, 1.0, 2.0])), [1, 0, 0.5])
    np.testing.assert_array_equal(unit_range(np.array([3.0, 3.0 + 1e-9])), [0, 0])


def test_otsu_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(0)
    values, sizes = rng.beta(0.5, 1.5, 40), rng.integers(1, 50, 40)
    pixels = np.floor(values.repeat(sizes) * 256)

    def between(threshold):
        low, high = pixels[pixels < threshold], pixels[pixels >= threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) else 0

    best = max(range(1, int(pixels.max()) + 1), key=between)
    assert otsu(values, sizes) == best / 256
    assert otsu(np.full(5, 0.3), np.ones(5, int)) == 1
