import os

from sempart_jax.web.uploads import UploadFolder


def write(path, size, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (1e9 - age, 1e9 - age))


def test_the_oldest_uploads_make_room_and_the_page_stays(tmp_path):
    write(tmp_path / "examples/scene.png", 5000, age=999)
    folder = UploadFolder(tmp_path, 10_000)
    for number in range(20):
        write(tmp_path / f"{number}/a.png", 10_000, age=number)
    folder.make_room()
    # Sixteen of the largest size, eight of which may be on their way.
    assert {path.parent.name for path in tmp_path.glob("*/a.png")} == set(map(str, range(8)))
    assert (tmp_path / "examples/scene.png").exists()
    folder.make_room()
    assert len(list(tmp_path.glob("*/a.png"))) == 8
    assert not (tmp_path / "8").exists()


def test_many_small_files_are_bounded_by_what_they_take_of_the_disk(tmp_path):
    folder = UploadFolder(tmp_path, 10_000)
    for number in range(20):
        write(tmp_path / f"{number}/a.png", number % 2, age=number)
    folder.make_room()
    # Eight of the largest size, of 8 KiB each.
    assert {path.name for path in tmp_path.iterdir()} == set(map(str, range(9)))


def test_a_folder_that_is_not_there_yet_has_room(tmp_path):
    UploadFolder(tmp_path / "absent", 100).make_room()
