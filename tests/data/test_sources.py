from pathlib import Path

import pytest

from sempart_jax.data.archives import DamagedArchiveError
from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.sources import ARCHIVES, BenchmarkFiles, download_archive, find_files
from tests.data.labelled_files import members, write_archives, write_unpacked, write_zip

STEMS = ["a", "b"]


def stems(files: BenchmarkFiles) -> list[list[str]]:
    return [[file.stem for file in role] for role in files]


def home(name: str, root: Path) -> Path:
    return root / BENCHMARKS[name].images.split("/")[0]


def test_every_benchmark_has_archives():
    assert list(ARCHIVES) == list(BENCHMARKS)
    for name, (images, masks) in ARCHIVES.items():
        assert images.folder == Path(BENCHMARKS[name].images).name
        assert masks.folder == Path(BENCHMARKS[name].masks).name


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


def test_archives_without_a_folder(tmp_path):
    for archive, files in members("dut_omron", STEMS).items():
        bare = {Path(path).name: data for path, data in files.items()}
        write_zip(tmp_path / archive, bare)
    assert stems(find_files("dut_omron", tmp_path)) == [STEMS, STEMS]


def test_unpacked_folders_come_before_archives(tmp_path):
    write_unpacked("ecssd", tmp_path, ["unpacked"])
    write_archives("ecssd", tmp_path, ["zipped"])
    assert stems(find_files("ecssd", tmp_path)) == [["unpacked"], ["unpacked"]]


def test_only_what_is_missing_is_downloaded(tmp_path):
    write_archives("ecssd", tmp_path / "server", STEMS)
    (tmp_path / "images.zip").write_bytes((tmp_path / "server/images.zip").read_bytes())
    asked = []

    def download(url: str) -> Path:
        asked.append(url)
        return tmp_path / "server" / url.rsplit("/", 1)[-1]

    assert stems(find_files("ecssd", tmp_path, download)) == [STEMS, STEMS]
    assert asked == [ARCHIVES["ecssd"][1].url]
    asked.clear()
    write_archives("duts_te", tmp_path / "server", STEMS)
    find_files("duts_te", tmp_path, download)
    assert asked == [ARCHIVES["duts_te"][0].url]


def test_a_failed_download_is_told_and_not_tried_twice(tmp_path):
    asked = []

    def download(url: str) -> Path:
        asked.append(url)
        raise OSError("the line is dead")

    (archive, _) = ARCHIVES["duts_te"]
    with pytest.raises(FileNotFoundError, match=rf"{archive.name} \(the line is dead\)"):
        find_files("duts_te", tmp_path, download)
    assert asked == [archive.url]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_missing_files_tell_what_to_put_where(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        find_files(name, tmp_path)
    text = str(caught.value)
    assert "downloading is switched off" in text
    for needed in (
        tmp_path / BENCHMARKS[name].images,
        tmp_path / BENCHMARKS[name].masks,
        home(name, tmp_path),
        *(archive.url for archive in ARCHIVES[name]),
    ):
        assert str(needed) in text


def test_a_server_out_of_reach_is_told_at_once(tmp_path):
    # Port 9 of this machine: nobody listens, and it takes no name server to know.
    with pytest.raises(OSError, match="refused"):
        download_archive(tmp_path / "downloads", "http://127.0.0.1:9/x.zip")
    assert not (tmp_path / "downloads").exists()


def test_a_damaged_archive_is_named(tmp_path):
    write_archives("ecssd", tmp_path, STEMS)
    (tmp_path / "images.zip").write_bytes((tmp_path / "images.zip").read_bytes()[:-30])
    with pytest.raises(DamagedArchiveError, match=r"images\.zip is no complete zip archive"):
        find_files("ecssd", tmp_path)


def test_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="unknown benchmark 'voc'"):
        find_files("voc", tmp_path)
