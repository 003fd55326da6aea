import stat
import struct
import zipfile

import pytest

from sempart_jax.data import archives
from sempart_jax.data.archives import DamagedArchiveError, archive_files, folder_files
from sempart_jax.data.images import UnreadableImageError
from tests.data.labelled_files import write_zip


def stems(files) -> list[str]:
    return [file.stem for file in files]


def test_folder_files_are_read_as_they_are(tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"two")
    (tmp_path / "a.png").write_bytes(b"one")
    files = folder_files(tmp_path)
    assert [(file.label, file.stem, file.read()) for file in files] == [
        (str(tmp_path / "a.png"), "a", b"one"),
        (str(tmp_path / "b.jpg"), "b", b"two"),
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"a\.png: No such file"):
        files[0].read()


@pytest.mark.parametrize("prefix", ["", "images/", "ECSSD/images/", "a/b/images/deep/"])
def test_any_folders_above_the_images(tmp_path, prefix):
    path = write_zip(tmp_path / "x.zip", {f"{prefix}b.jpg": b"two", f"{prefix}a.x.jpg": b"one"})
    files = archive_files(path, "images")
    assert [(file.label, file.stem, file.read()) for file in files] == [
        (f"{path}/{prefix}a.x.jpg", "a.x", b"one"),
        (f"{path}/{prefix}b.jpg", "b", b"two"),
    ]


def test_the_wanted_folder_of_two(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"T/T-Image/a.jpg": b"image", "T/T-Mask/a.png": b"mask"})
    assert [file.read() for file in archive_files(path, "T-Image")] == [b"image"]
    assert [file.read() for file in archive_files(path, "T-Mask")] == [b"mask"]


def test_junk_is_passed_over(tmp_path):
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
    assert stems(archive_files(path, "images")) == ["a"]


def test_a_link_is_passed_over(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"images/a.jpg": b"one"})
    link = zipfile.ZipInfo("images/secret.jpg")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert stems(archive_files(path, "images")) == ["a"]


def test_no_member_reaches_the_disk(tmp_path):
    folder = tmp_path / "inside" / "deep"
    names = ["../../escaped.jpg", "images/../../../up.jpg", str(tmp_path / "absolute.jpg"), "a.jpg"]
    path = write_zip(folder / "x.zip", dict.fromkeys(names, b"data"))
    before = sorted(tmp_path.rglob("*"))
    for file in archive_files(path, "images"):
        assert file.read() == b"data"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAXIMUM_BYTES", 1000)
    path = write_zip(tmp_path / "x.zip", {"a.jpg": bytes(1000), "bomb.jpg": bytes(1001)})
    fitting, bomb = archive_files(path, "images")
    assert len(fitting.read()) == 1000
    with pytest.raises(
        UnreadableImageError, match=r"x\.zip/bomb\.jpg: 1001 bytes .* limit of 1000"
    ):
        bomb.read()


def test_a_bomb_that_claims_to_be_small(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.jpg": bytes(10**6)})
    data = bytearray(path.read_bytes())
    # Central directory: uncompressed size at offset 24.
    place = data.index(b"PK\1\2") + 24
    assert struct.unpack_from("<I", data, place) == (10**6,)
    struct.pack_into("<I", data, place, 100)
    path.write_bytes(data)
    (file,) = archive_files(path, "images")
    with pytest.raises(UnreadableImageError, match=r"x\.zip/a\.jpg"):
        file.read()


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "folder"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = write_zip(tmp_path / "x.zip", {"a.jpg": b"one" * 100})
    data = path.read_bytes()
    path.unlink()
    match damage:
        case "cut":
            path.write_bytes(data[:-30])
        case "text":
            path.write_text("<html>404 not found</html>")
        case "empty":
            path.touch()
        case _:
            path.mkdir()
    with pytest.raises(
        DamagedArchiveError, match=r"x\.zip is no complete zip archive.*put a whole one"
    ):
        archive_files(path, "images")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_costs_no_other(tmp_path, compression):
    files = {"a.jpg": b"one" * 100, "b.jpg": b"two" * 100}
    path = write_zip(tmp_path / "x.zip", files, compression)
    data = bytearray(path.read_bytes())
    data[data.index(b"a.jpg") + 8] ^= 0xFF
    path.write_bytes(data)
    first, second = archive_files(path, "images")
    with pytest.raises(UnreadableImageError, match=r"x\.zip/a\.jpg"):
        first.read()
    assert second.read() == b"two" * 100


def test_an_encrypted_member_is_named(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.jpg": b"one"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=r"x\.zip/a\.jpg: it is encrypted"):
        archive_files(path, "images")[0].read()


def test_missing_archives_and_archives_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no archive .*nowhere\.zip"):
        archive_files(tmp_path / "nowhere.zip", "images")
    path = write_zip(tmp_path / "x.zip", {"readme.txt": b"hello"})
    with pytest.raises(FileNotFoundError, match=r"no image in .*x\.zip"):
        archive_files(path, "images")
