import http.server
import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from sempart_jax.data import archives, builders
from sempart_jax.data.archives import ARCHIVES, BenchmarkFiles, file_name, folder_files
from sempart_jax.data.benchmarks import BENCHMARKS, open_labelled_set
from sempart_jax.data.builders import BUILDERS, Ecssd, Preparation, prepare
from sempart_jax.data.images import UnreadableImageError
from sempart_jax.data.labelled import PreparedSet
from tests.data.labelled_files import (
    ORIENTATION,
    encode,
    pair,
    photo,
    relative,
    write_archives,
    write_unpacked,
    write_zip,
)

STEMS = ["c", "a", "b"]


def names(root: Path, name: str) -> list[str]:
    return list(open_labelled_set(name, root).names)


def records(root: Path, name: str):
    """Read what was prepared with the library alone, undecoded."""
    verbatim = tfds.decode.SkipDecoding()
    folder = root / "tfds" / BENCHMARKS[name].prepared / "1.0.0"
    return tfds.builder_from_directory(folder).as_data_source(
        BENCHMARKS[name].split, decoders={"image": verbatim, "mask": verbatim}
    )


def prepare_files(root: Path, files: dict[str, tuple[bytes, bytes | None]]) -> Preparation:
    """Prepare ECSSD from images and masks by stem."""
    archives: dict[str, dict[str, bytes]] = {"images": {}, "ground_truth_mask": {}}
    for stem, (image, mask) in files.items():
        archives["images"][f"images/{stem}.jpg"] = image
        if mask is not None:
            archives["ground_truth_mask"][f"ground_truth_mask/{stem}.png"] = mask
    for archive, data in archives.items():
        write_zip(root / f"{archive}.zip", data)
    return prepare("ecssd", root, download=False)


def unchecked_example(image, mask):
    files = {"image": io.BytesIO(image.read()), "mask": io.BytesIO(mask.read()), "name": image.stem}
    return files, np.full((1, 1), 255, np.uint8)


@pytest.mark.parametrize("zipped", [True, False])
def test_every_data_set_is_prepared_from_its_authors_layout(tmp_path, zipped):
    write = write_archives if zipped else write_unpacked
    for name in BENCHMARKS:
        write(name, tmp_path, STEMS)
    for dataset in BUILDERS:
        done = prepare(dataset, tmp_path, download=False)
        splits = {one.split for one in BENCHMARKS.values() if one.prepared == dataset}
        assert done.images == dict.fromkeys(splits, 3)
        assert not done.was_there
        assert not done.missing
        assert done.folder == tmp_path / "tfds" / dataset / "1.0.0"
        info = json.loads((done.folder / "dataset_info.json").read_text())
        assert info["fileFormat"] == "array_record"
    for name in BENCHMARKS:
        labelled = open_labelled_set(name, tmp_path)
        assert isinstance(labelled, PreparedSet)
        assert list(labelled.names) == ["a", "b", "c"]
        # Image k was written from seed k.
        # The library reads it, too.
        stored = [(record["image"], record["mask"]) for record in records(tmp_path, name)]
        assert stored == [pair(k) for k in (1, 2, 0)]
        np.testing.assert_array_equal(labelled[2].ground_truth, photo(0)[..., 0])
    assert sorted(path.name for path in (tmp_path / "tfds").iterdir()) == sorted(BUILDERS)


def test_records_keep_the_order_of_names_over_several_shards(tmp_path):
    stems = [f"{number:03}" for number in range(40)]
    write_unpacked("ecssd", tmp_path, stems[::-1])
    images, masks = (
        folder_files(tmp_path / "ECSSD" / relative("ecssd", role)) for role in ("images", "masks")
    )
    builder = Ecssd(files={"test": BenchmarkFiles(images[::-1], masks)}, data_dir=tmp_path / "out")
    builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(num_shards=4, try_download_gcs=False),
    )
    assert len(list(Path(builder.data_path).glob("*array_record-*"))) == 4
    labelled = PreparedSet(builder.data_path, "test")
    assert [item.name for item in map(labelled.__getitem__, range(40))] == stems


def test_bad_pairs_are_named_and_left_out(tmp_path):
    image, mask = pair(0)
    done = prepare_files(
        tmp_path,
        {
            "good": (image, mask),
            "cut": (image[: len(image) // 2], mask),
            "lacking": (image, None),
            "itself": (mask, mask),
            "other_size": (image, encode(photo(0, 9, 6)[..., 0])),
            "text": (b"<html>", mask),
            "text_mask": (image, b"<html>"),
            "zero": (image, b""),
        },
    )
    assert done.images == {"test": 1}
    assert names(tmp_path, "ecssd") == ["good"]
    left_out = {Path(label).stem: reason for label, reason in done.left_out["test"].items()}
    for stem, reason in {
        "cut": "Truncated",
        "lacking": "has no mask",
        "itself": "is its own mask",
        "other_size": "the mask has 6x9 pixels and its image",
        "text": "not an image",
        "text_mask": f"{tmp_path}/ground_truth_mask.zip/ground_truth_mask/text_mask.png",
        "zero": "not an image",
    }.items():
        told = left_out.pop(stem)
        assert reason in told
        assert f"images/{stem}.jpg: " not in told
    assert not left_out


def test_what_can_be_read_is_kept_whatever_its_kind(tmp_path):
    upright = photo()
    grey = upright[..., 0]
    exif = Image.Exif()
    # EXIF 2.32: the first row of what is stored is the right side of the upright image.
    exif[ORIENTATION] = 6
    rotated = encode(np.ascontiguousarray(upright[:, ::-1].swapaxes(0, 1)), exif=exif)
    files = {
        "deep": (encode(upright), encode(grey.astype(np.uint16) * 257)),
        "rotated": (rotated, encode(np.repeat(grey[..., None], 3, axis=-1))),
    }
    assert prepare_files(tmp_path, files).left_out == {"test": {}}
    labelled, stored = open_labelled_set("ecssd", tmp_path), records(tmp_path, "ecssd")
    for index, (stem, (image, mask)) in enumerate(files.items()):
        assert labelled.names[index] == stem
        assert (stored[index]["image"], stored[index]["mask"]) == (image, mask)
        np.testing.assert_array_equal(labelled[index].image, upright)
        np.testing.assert_array_equal(labelled[index].ground_truth, grey)


def test_two_masks_and_two_images_of_one_name(tmp_path):
    image, mask = pair(0)
    write_zip(tmp_path / "images.zip", {"a.jpg": image, "b.jpg": image, "more/b.png": image})
    write_zip(tmp_path / "ground_truth_mask.zip", {"a.jpg": mask, "a.png": mask, "b.png": mask})
    done = prepare("ecssd", tmp_path, download=False)
    assert names(tmp_path, "ecssd") == ["b"]
    first, second = done.left_out["test"].items()
    assert first[0].endswith("images.zip/a.jpg")
    assert "has several masks" in first[1]
    assert second == (f"{tmp_path}/images.zip/more/b.png", "has the name of another image")


def test_not_one_usable_pair_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"not one image can be used: .*a\.jpg: has no mask"):
        prepare_files(tmp_path, {"a": (pair(0)[0], None), "b": (b"", pair(0)[1])})
    assert not list((tmp_path / "tfds").rglob("*.array_record*"))
    assert not (tmp_path / "tfds/ecssd").exists()


def test_photographs_alone_are_no_data_set(tmp_path):
    """Neither in one archive for images and masks, nor in a copy of it for the masks."""
    images = {f"DUTS-TE/DUTS-TE-Image/{stem}.jpg": pair(k)[0] for k, stem in enumerate(STEMS)}
    write_zip(tmp_path / "DUTS-TE.zip", images)
    with pytest.raises(FileNotFoundError, match=r"no masks in .*DUTS-TE\.zip: none of its 3"):
        prepare("duts", tmp_path, download=False)
    photographs = {f"images/{stem}.jpg": pair(k)[0] for k, stem in enumerate(STEMS)}
    for url in ARCHIVES["ecssd"]:
        write_zip(tmp_path / file_name(url), photographs)
    with pytest.raises(ValueError, match=r"not one image can be used: .*a\.jpg: is its own mask"):
        prepare("ecssd", tmp_path, download=False)
    assert not (tmp_path / "tfds/ecssd").exists()


def test_masks_without_foreground_are_refused(tmp_path):
    empty = encode(np.zeros((6, 9), np.uint8))
    with pytest.raises(ValueError, match="ecssd test: none of 2 masks has foreground"):
        prepare_files(tmp_path, {stem: (pair(0)[0], empty) for stem in "ab"})
    assert not (tmp_path / "tfds/ecssd").exists()


def test_images_that_were_prepared_as_their_own_masks_are_named(tmp_path, monkeypatch):
    grey = pair(0)[1]
    with monkeypatch.context() as patch:
        # As versions before this one have done it.
        patch.setattr(builders, "_read_example", unchecked_example)
        prepare_files(tmp_path, {"a": (grey, grey), "b": pair(1)})
    labelled = open_labelled_set("ecssd", tmp_path)
    with pytest.raises(UnreadableImageError, match="test/a/image: is its own mask"):
        labelled[0]
    assert labelled[1].name == "b"


def test_preparing_again_does_nothing(tmp_path, monkeypatch):
    write_archives("ecssd", tmp_path, STEMS)
    first = prepare("ecssd", tmp_path, download=False)
    monkeypatch.setattr(builders, "find_files", lambda *_: pytest.fail("it looked for files"))
    again = prepare("ecssd", tmp_path)
    assert again == Preparation(first.folder, {"test": 3}, {}, {}, was_there=True)


@pytest.mark.parametrize("moment", ["while writing", "before the end"])
def test_an_interrupted_preparation_is_run_again(tmp_path, monkeypatch, moment):
    write_archives("ecssd", tmp_path / "before", ["stale"])
    left = prepare("ecssd", tmp_path, manual_dir=tmp_path / "before", download=False).folder
    # What a killed process leaves behind.
    staging = tmp_path / "tfds/.preparing-ecssd/ecssd"
    (staging / "incomplete.X_1.0.0").mkdir(parents=True)
    left.rename(staging / left.name)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    write_archives("ecssd", tmp_path, STEMS)
    with monkeypatch.context() as patch:
        if moment == "while writing":
            patch.setattr(builders, "read_labelled", interrupt)
        else:
            patch.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare("ecssd", tmp_path, download=False)
    with pytest.raises(FileNotFoundError):
        open_labelled_set("ecssd", tmp_path)
    assert prepare("ecssd", tmp_path, download=False).images == {"test": 3}
    assert names(tmp_path, "ecssd") == ["a", "b", "c"]
    assert [path.name for path in (tmp_path / "tfds").iterdir()] == ["ecssd"]


def test_a_missing_split_is_named_and_added_later(tmp_path):
    write_archives("duts_te", tmp_path, STEMS)
    first = prepare("duts", tmp_path, download=False)
    assert first.images == {"test": 3}
    assert "DUTS-TR.zip" in first.missing["train"]
    # A split is never lost for another.
    write_archives("duts_tr", tmp_path / "other", STEMS)
    for manual_dir in (None, tmp_path / "other"):
        again = prepare("duts", tmp_path, manual_dir=manual_dir, download=False)
        assert again.was_there
        assert again.images == {"test": 3}
        assert list(again.missing) == ["test" if manual_dir else "train"]
    write_archives("duts_tr", tmp_path, ["x", "y"])
    assert prepare("duts", tmp_path, download=False).images == {"train": 2, "test": 3}
    assert names(tmp_path, "duts_tr") == ["x", "y"]


def test_nothing_there_and_nothing_to_download(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DUTS-TR\.zip[^$]*DUTS-TE\.zip"):
        prepare("duts", tmp_path, download=False)
    assert not (tmp_path / "tfds").exists()
    with pytest.raises(ValueError, match="unknown data set 'voc': choose one of duts, dut_omron"):
        prepare("voc", tmp_path)


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[tuple[Path, list[str]]]:
    """A folder that is served at the addresses of ECSSD, and the requests that were made."""
    folder, asked = tmp_path / "server", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            asked.append(f"{self.command} {self.path}")

        def log_error(self, template, *values):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=folder)
    ) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        root = f"http://127.0.0.1:{http_server.server_port}"
        local = tuple(f"{root}/{file_name(url)}" for url in ARCHIVES["ecssd"])
        monkeypatch.setitem(archives.ARCHIVES, "ecssd", local)
        yield folder, asked
        http_server.shutdown()
        thread.join()


def test_archives_are_downloaded_once_and_need_no_server_then(tmp_path, server):
    folder, asked = server
    write_archives("ecssd", folder, STEMS)
    root = tmp_path / "root"
    assert prepare("ecssd", root).images == {"test": 3}
    assert names(root, "ecssd") == ["a", "b", "c"]
    fetched = ["GET /ground_truth_mask.zip", "GET /images.zip"]
    assert sorted(asked) == fetched
    (root / "tfds/ecssd/1.0.0/dataset_info.json").unlink()
    for file in folder.iterdir():
        file.unlink()
    assert prepare("ecssd", root).images == {"test": 3}
    assert sorted(asked) == fetched


def test_a_server_that_refuses(tmp_path, server, monkeypatch):
    handler = http.server.SimpleHTTPRequestHandler
    monkeypatch.setattr(handler, "do_GET", lambda self: self.send_error(403))
    with pytest.raises(FileNotFoundError, match=r"images\.zip \(.*403"):
        prepare("ecssd", tmp_path / "other")


def test_a_download_that_is_damaged_or_absent_is_told_and_not_kept(tmp_path, server):
    folder, _ = server
    write_archives("ecssd", folder, STEMS)
    whole = (folder / "images.zip").read_bytes()
    (folder / "images.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"images\.zip \(.*File not found"):
        prepare("ecssd", tmp_path / "root")
    (folder / "images.zip").write_bytes(whole[:-30])
    with pytest.raises(FileNotFoundError, match=r"images\.zip \(what came is no complete zip"):
        prepare("ecssd", tmp_path / "root")
    (folder / "images.zip").write_bytes(whole)
    assert prepare("ecssd", tmp_path / "root").images == {"test": 3}


def test_a_record_is_damaged_alone(tmp_path):
    # Incompressible, so that the bytes of each image lie in a block of their own.
    noise = {
        f"{k}": (encode(photo(k, 200, 300)), encode(photo(k, 200, 300)[..., 0])) for k in range(3)
    }
    done = prepare_files(tmp_path, noise)
    (shard,) = done.folder.glob("*array_record-*")
    data = bytearray(shard.read_bytes())
    place = data.index(noise["1"][0][1000:1100])
    data[place : place + 100] = bytes(100)
    shard.write_bytes(data)
    labelled = open_labelled_set("ecssd", tmp_path)
    assert labelled[0].name == "0"
    with pytest.raises(UnreadableImageError, match=r"ecssd/1\.0\.0/test/1"):
        labelled[1]
    assert labelled[2].name == "2"


@pytest.mark.parametrize(
    ("dataset", "name", "count"), [("ecssd", "ecssd", 300), ("duts", "duts_te", 300)]
)
def test_real_files_come_back_byte_by_byte(tmp_path, reference_data, dataset, name, count):
    done = prepare(dataset, tmp_path, manual_dir=reference_data, download=False)
    assert not any(done.left_out.values())
    labelled, files = open_labelled_set(name, tmp_path), open_labelled_set(name, reference_data)
    assert list(labelled.names) == list(files.names)
    assert len(labelled) == count
    order = np.random.default_rng(0).permutation(count).tolist()
    stored = records(tmp_path, name)
    for index in order:
        path = reference_data / BENCHMARKS[name].images / f"{labelled.names[index]}.jpg"
        assert stored[index]["image"] == path.read_bytes()
    for index in order[:20]:
        for ours, theirs in zip(labelled[index], files[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)
