"""Files of the benchmarks: found in folders and archives, read in place, downloaded."""

import stat
import struct
import unicodedata
import zipfile
from pathlib import Path

import pytest

from sempart_jax.data import archives
from sempart_jax.data.archives import (
    ARCHIVES,
    BenchmarkFiles,
    StoredFile,
    archive_files,
    download_archive,
    file_name,
    find_files,
    folder_files,
)
from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.images import UnreadableImageError
from tests.data.labelled_files import write_archives, write_unpacked, write_zip

STEMS = ["a", "b"]


def stems(files: BenchmarkFiles) -> list[list[str]]:
    return [[file.stem for file in role] for role in files]


def home(name: str, root: Path) -> Path:
    return root / BENCHMARKS[name].images.split("/")[0]


def test_folder_files_are_read_as_they_are(tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"two")
    (tmp_path / "a.png").write_bytes(b"one")
    files = folder_files(tmp_path)
    assert [(file.label, file.stem, file.read()) for file in files] == [
        (str(tmp_path / "a.png"), "a", b"one"),
        (str(tmp_path / "b.jpg"), "b", b"two"),
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        files[0].read()


@pytest.mark.parametrize("prefix", ["", "images/", "ECSSD/images/", "a/b/images/deep/"])
def test_any_folders_above_the_images(tmp_path, prefix):
    members = {f"{prefix}b.jpg": b"two", f"{prefix}a.x.jpg": b"one"}
    path = write_zip(tmp_path / "x.zip", members | ({"masks/a.png": b"mask"} if prefix else {}))
    files = archive_files(path, "images")
    assert [(file.label, file.stem, file.read()) for file in files] == [
        (f"{path}/{prefix}a.x.jpg", "a.x", b"one"),
        (f"{path}/{prefix}b.jpg", "b", b"two"),
    ]


@pytest.mark.parametrize("prefix", ["", "DUTS-TE\\"])
def test_folders_of_windows(tmp_path, prefix):
    members = {
        f"{prefix}DUTS-TE-Image\\b.jpg": b"two",
        f"{prefix}DUTS-TE-Image\\a.jpg": b"one",
        f"{prefix}DUTS-TE-Mask\\a.png": b"mask",
        f"{prefix}DUTS-TE-Image\\folder.jpg\\": b"",
    }
    write_zip(tmp_path / "DUTS-TE.zip", members)
    files = find_files("duts_te", tmp_path)
    assert stems(files) == [["a", "b"], ["a"]]
    assert [file.read() for role in files for file in role] == [b"one", b"two", b"mask"]


@pytest.mark.parametrize("name", ["duts_tr", "duts_te"])
@pytest.mark.parametrize(("lacking", "told"), [(0, "no images"), (1, "no masks"), (2, "no images")])
def test_one_archive_for_both_holds_both(tmp_path, name, lacking, told):
    folders = [Path(part).name for part in (BENCHMARKS[name].images, BENCHMARKS[name].masks)]
    members = {f"{folder}/a.jpg": b"data" for folder in folders if folder != folders[lacking % 2]}
    members = {"a.jpg": b"data"} if lacking == 2 else members
    path = write_zip(tmp_path / file_name(ARCHIVES[name][0]), members)
    with pytest.raises(FileNotFoundError, match=rf"{told} in {path}: none of its 1 pictures"):
        find_files(name, tmp_path)


def test_junk_and_links_are_passed_over(tmp_path):
    junk = [
        "__MACOSX/images/._a.jpg",
        "__MACOSX/images/b.jpg",
        "images/Thumbs.db",
        "images/.DS_Store",
        "images/._a.jpg",
        "images/readme.txt",
        "images/folder.jpg/",
        ".hidden/images/c.jpg",
    ]
    path = write_zip(tmp_path / "x.zip", {**dict.fromkeys(junk, b""), "images/a.jpg": b"one"})
    link = zipfile.ZipInfo("images/secret.jpg")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert [file.stem for file in archive_files(path, "images")] == ["a"]


def test_no_member_reaches_the_disk(tmp_path):
    names = ["../../escaped.jpg", "images/../../../up.jpg", str(tmp_path / "absolute.jpg"), "a.jpg"]
    path = write_zip(tmp_path / "inside/deep/x.zip", dict.fromkeys(names, b"data"))
    before = sorted(tmp_path.rglob("*"))
    for file in archive_files(path, "images"):
        assert file.read() == b"data"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAXIMUM_BYTES", 1000)
    path = write_zip(tmp_path / "x.zip", {"a.jpg": bytes(1000), "bomb.jpg": bytes(1001)})
    fitting, bomb = archive_files(path, "images")
    assert len(fitting.read()) == 1000
    told = r"x\.zip/bomb\.jpg: 1001 bytes .* limit of 1000"
    with pytest.raises(UnreadableImageError, match=told):
        bomb.read()


def changed(path: Path, mark: bytes, offset: int, layout: str, value: int) -> Path:
    """Write a number into a file, so many bytes after a mark."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(mark) + offset, value)
    path.write_bytes(data)
    return path


def test_a_bomb_that_claims_to_be_small(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.jpg": bytes(10**6)})
    # Central directory: uncompressed size at offset 24.
    (file,) = archive_files(changed(path, b"PK\1\2", 24, "<I", 100), "images")
    with pytest.raises(UnreadableImageError, match=r"x\.zip/a\.jpg"):
        file.read()


def test_an_encrypted_member_is_named(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.jpg": b"one"})
    (file,) = archive_files(changed(path, b"PK\1\2", 8, "<H", 1), "images")
    with pytest.raises(UnreadableImageError, match=r"x\.zip/a\.jpg: .*is encrypted"):
        file.read()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_costs_no_other(tmp_path, compression):
    files = {"a.jpg": b"one" * 100, "b.jpg": b"two" * 100}
    path = changed(write_zip(tmp_path / "x.zip", files, compression), b"a.jpg", 8, "<B", 0xAA)
    first, second = archive_files(path, "images")
    with pytest.raises(UnreadableImageError, match=r"x\.zip/a\.jpg"):
        first.read()
    assert second.read() == b"two" * 100


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "folder"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = write_zip(tmp_path / "x.zip", {"a.jpg": b"one" * 100})
    contents = {"cut": path.read_bytes()[:-30], "text": b"<html>404 not found</html>", "empty": b""}
    path.unlink()
    if damage in contents:
        path.write_bytes(contents[damage])
    else:
        path.mkdir()
    told = r"x\.zip is no complete zip archive.*put a whole one"
    with pytest.raises(ValueError, match=told):
        archive_files(path, "images")


def test_an_archive_without_images(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"readme.txt": b"hello"})
    with pytest.raises(FileNotFoundError, match=r"no image in .*x\.zip"):
        archive_files(path, "images")


def test_every_benchmark_has_archives():
    assert list(ARCHIVES) == list(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("own_folder", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_in_the_layout_of_their_authors(tmp_path, name, own_folder, zipped):
    folder = home(name, tmp_path)
    if zipped:
        write_archives(name, folder, STEMS)
    else:
        write_unpacked(name, tmp_path, STEMS)
    files = find_files(name, tmp_path if own_folder else folder)
    assert stems(files) == [STEMS, STEMS]
    assert all(file.label.endswith(".jpg") for file in files.images)
    assert all(file.label.endswith(".png") for file in files.masks)


def test_unpacked_folders_come_before_archives(tmp_path):
    write_unpacked("ecssd", tmp_path, ["unpacked"])
    write_archives("ecssd", tmp_path, ["zipped"])
    assert stems(find_files("ecssd", tmp_path)) == [["unpacked"], ["unpacked"]]


def test_only_what_is_missing_is_downloaded_and_a_failure_not_tried_twice(tmp_path):
    write_archives("ecssd", tmp_path / "server", STEMS)
    write_archives("duts_te", tmp_path / "server", STEMS)
    (tmp_path / "images.zip").write_bytes((tmp_path / "server/images.zip").read_bytes())
    asked = []

    def download(url: str) -> Path:
        asked.append(url)
        if "DUTS-TR" in url:
            raise OSError("the line is dead")
        return tmp_path / "server" / url.rsplit("/", 1)[-1]

    assert stems(find_files("ecssd", tmp_path, download)) == [STEMS, STEMS]
    assert stems(find_files("duts_te", tmp_path, download)) == [STEMS, STEMS]
    with pytest.raises(FileNotFoundError, match=r"DUTS-TR\.zip \(the line is dead\)"):
        find_files("duts_tr", tmp_path, download)
    assert asked == [ARCHIVES[name][-1] for name in ("ecssd", "duts_te", "duts_tr")]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_missing_files_tell_what_to_put_where(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="downloading is switched off") as caught:
        find_files(name, tmp_path)
    for needed in (
        tmp_path / BENCHMARKS[name].images,
        tmp_path / BENCHMARKS[name].masks,
        home(name, tmp_path),
        *ARCHIVES[name],
    ):
        assert str(needed) in str(caught.value)


def test_a_server_out_of_reach_is_told_at_once(tmp_path):
    # Port 9 of this machine: nobody listens, and it takes no name server to know.
    with pytest.raises(OSError, match="refused"):
        download_archive(tmp_path / "downloads", "http://127.0.0.1:9/x.zip")
    assert not (tmp_path / "downloads").exists()


def test_names_are_compared_in_one_spelling():
    stems = {
        StoredFile(f"x.zip/{unicodedata.normalize(form, 'café')}.jpg", bytes).stem
        for form in ("NFC", "NFD")
    }
    assert len(stems) == 1
