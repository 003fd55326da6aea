"""The end of a program whose images are never read."""

import subprocess
import sys

STUCK = """
import threading
from concurrent.futures import ThreadPoolExecutor

from sempart_jax.training.awaited_batches import AwaitedBatches, leave_program


def batches():
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(threading.Event().wait).result()


awaited = AwaitedBatches(batches())
asked = iter([False, True])
assert awaited.next(lambda: next(asked)) is None
print("given up")
leave_program(3)
"""


def test_a_program_ends_though_a_thread_reads_for_ever():
    ended = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, "given up\n"), ended.stderr
