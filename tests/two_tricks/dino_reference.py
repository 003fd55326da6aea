"""A DINO vision transformer in float64 NumPy, written from its equations, and seeded weights."""

import numpy as np
from scipy.special import erf


def seeded_state_dict(
    patch_size: int, width: int, depth: int, grid: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Draw weights by facebookresearch/dino's names that keep every activation of order one."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, std: float) -> np.ndarray:
        return (std * rng.standard_normal(shape)).astype(np.float32)

    def dense(name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        return {
            f"{name}.weight": normal(outputs, inputs, std=inputs**-0.5),
            f"{name}.bias": normal(outputs, std=0.1),
        }

    def norm(name: str) -> dict[str, np.ndarray]:
        return {
            f"{name}.weight": 1 + normal(width, std=0.1),
            f"{name}.bias": normal(width, std=0.1),
        }

    state = {
        "cls_token": normal(1, 1, width, std=1.0),
        "pos_embed": normal(1, 1 + grid * grid, width, std=0.5),
        "patch_embed.proj.weight": normal(
            width, 3, patch_size, patch_size, std=(3 * patch_size**2) ** -0.5
        ),
        "patch_embed.proj.bias": normal(width, std=0.1),
    }
    for index in range(depth):
        block = f"blocks.{index}"
        state |= norm(f"{block}.norm1")
        state |= dense(f"{block}.attn.qkv", width, 3 * width)
        state |= dense(f"{block}.attn.proj", width, width)
        state |= norm(f"{block}.norm2")
        state |= dense(f"{block}.mlp.fc1", width, 4 * width)
        state |= dense(f"{block}.mlp.fc2", 4 * width, width)
    return state | norm("norm")


def cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    x = np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def resampling_matrix(wanted: int, trained: int) -> np.ndarray:
    """Return [wanted, trained] weights at source (dst + 0.5) / s - 0.5, s = (wanted + 0.1) / N."""
    scale = (wanted + 0.1) / trained
    matrix = np.zeros((wanted, trained))
    for row in range(wanted):
        source = (row + 0.5) / scale - 0.5
        for tap in range(int(np.floor(source)) - 1, int(np.floor(source)) + 3):
            matrix[row, np.clip(tap, 0, trained - 1)] += cubic(np.asarray(source - tap))
    return matrix


def resample(table: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bring a position embedding [1, 1 + N * N, D] to another grid."""
    table = table.astype(np.float64)
    trained = round((table.shape[1] - 1) ** 0.5)
    if (rows, columns) == (trained, trained):
        return table
    patches = np.einsum(
        "ri,cj,ijd->rcd",
        resampling_matrix(rows, trained),
        resampling_matrix(columns, trained),
        table[0, 1:].reshape(trained, trained, -1),
        optimize=True,
    )
    return np.concatenate([table[:, :1], patches.reshape(1, rows * columns, -1)], axis=1)


def forward(
    state: dict[str, np.ndarray], image: np.ndarray, num_heads: int
) -> dict[str, np.ndarray]:
    """Run the network on [B, H, W, 3]; keys without the class token, tokens after the norm."""
    p = {name: tensor.astype(np.float64) for name, tensor in state.items()}

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return centred / deviation * p[f"{name}.weight"] + p[f"{name}.bias"]

    width, _, patch, _ = p["patch_embed.proj.weight"].shape
    batch, rows, columns = image.shape[0], image.shape[1] // patch, image.shape[2] // patch
    patches = image.astype(np.float64).reshape(batch, rows, patch, columns, patch, 3)
    patches = np.einsum(
        "brpcqk,dkpq->brcd", patches, p["patch_embed.proj.weight"], optimize=True
    ).reshape(batch, rows * columns, width)
    class_token = np.repeat(p["cls_token"], batch, axis=0)
    x = np.concatenate([class_token, patches + p["patch_embed.proj.bias"]], axis=1)
    x = x + resample(p["pos_embed"], rows, columns)

    depth = 1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))
    for index in range(depth):
        block = f"blocks.{index}"
        q, k, v = np.split(dense(norm(x, f"{block}.norm1"), f"{block}.attn.qkv"), 3, axis=-1)
        mixed, class_rows = np.empty_like(q), []
        for head in range(num_heads):
            part = np.s_[..., head * width // num_heads : (head + 1) * width // num_heads]
            scores = q[part] @ k[part].swapaxes(1, 2) / np.sqrt(width / num_heads)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            mixed[part] = weights @ v[part]
            class_rows.append(weights[:, 0])
        x = x + dense(mixed, f"{block}.attn.proj")
        hidden = dense(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        x = x + dense(hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))), f"{block}.mlp.fc2")
    features = {
        name: part[:, 1:].reshape(batch, rows, columns, width)
        for name, part in (("keys", k), ("queries", q), ("values", v))
    }
    return {
        **features,
        "tokens": norm(x, "norm"),
        "class_attention": np.stack(class_rows, axis=1),
    }
