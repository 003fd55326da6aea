"""Disks that are small, or may not be written to, where this user may make them."""

import contextlib
import subprocess


class MountedDisk:
    """A disk in memory; :attr:`mounted` says whether the system has allowed it."""

    def __init__(self, folder, megabytes):
        self._folder = folder
        self.mounted = self._mount("-t", "tmpfs", "-o", f"size={megabytes}m", "none")

    def change(self, options):
        """Mount it again with other options."""
        assert self._mount("-o", f"remount,{options}")

    def unmount(self):
        """Take it away, with what is on it."""
        if self.mounted:
            subprocess.run(["umount", "-l", self._folder], check=True)

    def _mount(self, *arguments):
        command = ["mount", *arguments, str(self._folder)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def mounted_disk(folder, megabytes):
    """A disk of so many megabytes at an empty folder, until the block ends."""
    disk = MountedDisk(folder, megabytes)
    try:
        yield disk
    finally:
        disk.unmount()
