"""A folder of ordinary photographs among a hundred files that a program may stumble over."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults.damaged_images import cut, damaged, encode, scene, strips, unusual

ORDINARY = 12
HOSTILE = 111

_STRANGE_NAMES = (
    "with spaces .png",
    "'single' \"double\".png",
    "tab\tand\rreturn.png",
    "new\nline.png",
    "back\\slash.png",
    "-leading-dash.png",
    "--workdir=x.png",
    "$(touch injected) `x`;x&|>x.png",
    "%s%n{0}.png",
    "[a]*?.png",
    "~.png",
    "\x1b[31mred.png",
    "\u202egnp.right_to_left.png",
    "😀 größe.png",
    "cafe\u0301.png",
    os.fsdecode(b"no\xffutf\xe98.png"),
    "con.PNG",
    "l" * 240 + ".png",
    "<b>&amp;.png",
)


class HostileFolder(NamedTuple):
    """What has been written, by path relative to the folder.

    Attributes:
        good: images that are to be processed.
        strips: images that are to be processed wherever they are not cropped.
        bad: files that are to be named, once.
    """

    good: frozenset[str]
    strips: frozenset[str]
    bad: frozenset[str]


def write_ordinary(folder: Path) -> frozenset[str]:
    folder.mkdir(parents=True)
    names = frozenset(f"photo_{number:02d}.png" for number in range(ORDINARY))
    for number, name in enumerate(sorted(names)):
        (folder / name).write_bytes(encode(scene(number + 10)))
    return names


def write_hostile(folder: Path) -> HostileFolder:
    """Write the ordinary photographs and, among them, :data:`HOSTILE` other files."""
    good, bad = set(write_ordinary(folder)), set()
    long = strips()
    for group, files in ((good, unusual()), (bad, damaged()), (set(), long)):
        for name, content in files.items():
            (folder / name).write_bytes(content)
            group.add(name)
    for number, name in enumerate(_STRANGE_NAMES):
        # Some of the strange names are of files that have to be named.
        whole = encode(scene(number + 40))
        broken = number % 4 == 3
        (folder / name).write_bytes(cut(whole, 0.5) if broken else whole)
        (bad if broken else good).add(name)
    bad |= set(_special_files(folder))
    count = len(good) + len(bad) + len(long) - ORDINARY
    assert count == HOSTILE, count
    return HostileFolder(frozenset(good), frozenset(long), frozenset(bad))


def _special_files(folder: Path) -> Iterator[str]:
    """Make what is no regular file; yield the names of those that are found as images."""
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "up").symlink_to("..")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "there.png").symlink_to("back.png")
    (folder / "back.png").symlink_to("there.png")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "nothing.png").symlink_to("/dev/null")
    yield from ("dangling.jpg", "loop.png", "there.png", "back.png", "endless.png", "nothing.png")
    os.mkfifo(folder / "pipe.png")
    yield "pipe.png"
    here = Path.cwd()
    listening = socket.socket(socket.AF_UNIX)
    try:
        # The path of a socket may not be long.
        os.chdir(folder)
        listening.bind("socket.png")
    finally:
        os.chdir(here)
        listening.close()
    yield "socket.png"
    if os.geteuid():
        (folder / "forbidden.png").write_bytes(encode(scene()))
        (folder / "forbidden.png").chmod(0)
    else:
        # Root may read everything but what the system itself keeps back.
        (folder / "forbidden.png").symlink_to("/proc/self/mem")
    yield "forbidden.png"
