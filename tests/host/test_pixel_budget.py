"""Bounds of pixels in memory."""

import threading
import time

from sempart_jax.host.pixel_budget import PixelBudget, within_pixels


def test_a_limit_holds_but_for_one_that_is_larger_and_alone():
    budget = PixelBudget(10)
    assert budget.try_acquire(6)
    assert budget.try_acquire(4)
    assert not budget.try_acquire(1)
    budget.release(6)
    assert not budget.try_acquire(7)
    budget.release(4)
    assert budget.try_acquire(100)
    assert not budget.try_acquire(1)


def test_threads_wait_until_there_is_room():
    budget = PixelBudget(10)
    lock = threading.Lock()
    now, most = 0, 0

    def work(pixels):
        nonlocal now, most
        with budget.taken(pixels):
            with lock:
                now += pixels
                most = max(most, now)
            time.sleep(0.002)
            with lock:
                now -= pixels

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in [4, 3, 5, 2, 6] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert 6 < most <= 10
    assert budget.try_acquire(10)


def test_runs_hold_what_fits_and_larger_ones_alone():
    pixels = [3, 4, 3, 1, 20, 0, 10, 1]
    runs = list(within_pixels(range(8), pixels.__getitem__, 10))
    assert runs == [[0, 1, 2], [3], [4], [5, 6], [7]]
    assert list(within_pixels([], pixels.__getitem__, 10)) == []
