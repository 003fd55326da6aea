"""The baselines' numeric cores in float64 NumPy and SciPy, and keys to run them on."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from sempart_jax.data.image_sizes import resize
from sempart_jax.data.images import read_image
from sempart_jax.kernels.normalization import normalize
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.two_tricks.vit import VisionTransformer


def cosines(keys):
    """Cosines ``[N, N]`` of keys ``[h, w, D]``."""
    flat = keys.reshape(-1, keys.shape[-1]).astype(np.float64)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = flat / np.where(length > 0, length, 1)
    return unit @ unit.T


def generalised_eigenvector(affinity):
    """Second eigenvector of (D - W) y = lambda D y."""
    degree = np.diag(affinity.sum(axis=1))
    _, vectors = scipy.linalg.eigh(degree - affinity, degree, subset_by_index=[1, 1])
    return vectors[:, 0]


def cut(affinity):
    """Side of the entry of largest absolute value, after a split at the mean."""
    y = generalised_eigenvector(affinity)
    side = y > y.mean()
    return side if side[np.abs(y).argmax()] else ~side


def photographs(folder, count, side):
    """Photographs squashed to squares, ``[count, side, side, 3]`` in [0, 1]."""
    paths = sorted((folder / "ECSSD/images").glob("*.jpg"))[:count]
    return np.stack([resize(read_image(path), side, side) for path in paths]) / np.float32(255)


def handcrafted_keys(images):
    return np.asarray(jax.jit(_handcrafted)(normalize(jnp.asarray(images))))


def _handcrafted(images):
    return HandcraftedBackbone().apply({"params": {}}, images)["keys"]


def seeded_vit_keys(images):
    """Keys of a small vision transformer with weights drawn from a seed."""
    return seeded_vit_features(images)["keys"]


def seeded_vit_features(images):
    """The same, and the attention of its class token."""
    vit = VisionTransformer(patch_size=8, width=48, depth=2, num_heads=3)
    images = normalize(jnp.asarray(images))
    params = jax.jit(vit.init)(jax.random.key(0), images[:1])
    features = jax.jit(lambda params: vit.apply(params, images, class_attention=True))(params)
    return jax.tree.map(np.asarray, features)
