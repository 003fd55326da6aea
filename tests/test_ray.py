"""Masks by Ray Data, on a cluster of this machine."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.networks.builtin_model import NAME
from sempart_jax.predict.load import load_segmenter

REASON = "Ray or pycocotools is not installed: see `make test-runtimes`"
pa = pytest.importorskip("pyarrow", reason=REASON)
coco = pytest.importorskip("pycocotools.mask", reason=REASON)
ray = pytest.importorskip("ray", reason=REASON)
CheckpointConfig = pytest.importorskip("ray.data.checkpoint", reason=REASON).CheckpointConfig
sempart_ray = pytest.importorskip("sempart_jax.ray")
SCHEMA, Segment = sempart_ray.SCHEMA, sempart_ray.Segment

# Ray warns of itself, of sockets that it leaves open, and of the forks by which it starts its own
# programs; pycocotools does not know NumPy 2 yet.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning"),
]

PICTURES = 24
EXAMPLES = sorted((Path(__file__).parents[1] / "examples/photographs").glob("*.jpg"))
OPTIONS = {"source": NAME, "resolution": 64}


class KilledOnce(Segment):
    """The first worker to have a batch is killed in the middle of it."""

    def __init__(self, marker: str, **options):
        super().__init__(**options)
        self.marker = marker

    def __call__(self, batch):
        try:
            Path(self.marker).touch(exist_ok=False)
        except FileExistsError:
            return super().__call__(batch)
        return os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(PICTURES):
        with Image.open(EXAMPLES[index % len(EXAMPLES)]) as image:
            image.reduce(4).rotate(index).save(folder / f"{index:02d}.png")
    return folder


def segment(folder: Path, out: Path, step=Segment, **options) -> None:
    images = ray.data.read_binary_files(str(folder), include_paths=True, override_num_blocks=6)
    images.map_batches(
        step, fn_constructor_kwargs=OPTIONS | options, batch_size=4, concurrency=2
    ).write_parquet(str(out))


def read(out: Path) -> list[dict]:
    rows = ray.data.read_parquet(str(out), file_extensions=["parquet"]).take_all()
    return sorted(rows, key=lambda row: row["path"])


def decode(row: dict) -> np.ndarray:
    size = [row["height"], row["width"]]
    return coco.decode({"size": size, "counts": row["counts"]}).astype(bool)


def test_a_batch_has_a_row_a_picture(pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((pictures / "00.png").read_bytes()[:500])
    paths = [pictures / "01.png", broken, pictures / "02.png"]
    batch = {
        "bytes": np.array([path.read_bytes() for path in paths], object),
        "path": np.array([str(path) for path in paths], object),
    }
    table = Segment(**OPTIONS)(batch)
    assert table.schema == SCHEMA
    first, failed, second = table.to_pylist()
    segmenter = load_segmenter(**OPTIONS)
    for path, row in ((paths[0], first), (paths[2], second)):
        with Image.open(path) as image:
            binary = segmenter(image) > 0.5
        np.testing.assert_array_equal(decode(row), binary)
        assert row["area"] == binary.mean() > 0
        assert 0 < row["confidence"] <= 1
        assert len(row["box"]) == 4
        assert row["error"] is None
    assert failed["path"] == str(broken)
    assert failed["error"]
    assert failed["counts"] is failed["height"] is failed["box"] is None


def test_what_is_no_batch_of_pictures_is_told():
    with pytest.raises(ValueError, match=r"no column path.*include_paths=True"):
        Segment(**OPTIONS)({"bytes": np.array([b""], object)})
    with pytest.raises(ValueError, match="either source or method"):
        Segment(NAME, method="priors")
    with pytest.raises(ValueError, match="threshold"):
        Segment(NAME, threshold=1.5)


def test_a_killed_worker_costs_no_picture(cluster, pictures, tmp_path):
    segment(pictures, tmp_path / "masks", KilledOnce, marker=str(tmp_path / "killed"))
    assert (tmp_path / "killed").exists()
    rows = read(tmp_path / "masks")
    assert [Path(row["path"]).name for row in rows] == [f"{i:02d}.png" for i in range(PICTURES)]
    segmenter = load_segmenter(**OPTIONS)
    for row in rows[:: PICTURES // 4]:
        with Image.open(row["path"]) as image:
            np.testing.assert_array_equal(decode(row), segmenter(image) > 0.5)


def test_a_second_call_does_what_is_missing(cluster, pictures, tmp_path):
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="path",
        checkpoint_path=str(tmp_path / "done"),
        delete_checkpoint_on_success=False,
    )
    try:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for number in (0, 1, 2):
            shutil.copy(pictures / f"{number:02d}.png", folder)
        segment(folder, tmp_path / "masks")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()}
        for number in (3, 4):
            shutil.copy(pictures / f"{number:02d}.png", folder)
        segment(folder, tmp_path / "masks")
    finally:
        context.checkpoint_config = None
    assert {path: path.stat().st_mtime_ns for path in before} == before
    names = [Path(row["path"]).name for row in read(tmp_path / "masks")]
    assert names == [f"{i:02d}.png" for i in range(5)]
