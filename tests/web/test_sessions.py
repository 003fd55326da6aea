import numpy as np
import pytest

from sempart_jax.data.images import UnreadableImageError
from sempart_jax.web.finishing import Finish, encode_png, finish_mask
from sempart_jax.web.sessions import Session, SessionStore, open_session, read_upload


class CountingNetwork:
    def __init__(self):
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        mask = np.zeros(image.shape[:2], np.float32)
        mask[2:5, 2:5] = 1
        return mask


def session_of(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.float32)
    return Session("a.png", image, mask, 0.0, finish_mask(image, mask, Finish()), 0.0)


def test_the_network_sees_a_picture_once_however_often_its_mask_is_finished():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    network = CountingNetwork()
    session = open_session("a.png", image, network, Finish(radius=1))
    first = session.finished
    session.finish(Finish(radius=3))
    assert (session.finished.refined != first.refined).any()
    session.finish(Finish(invert="always"))
    np.testing.assert_array_equal(session.finished.soft, 1 - first.soft)
    session.finish(Finish(radius=1))
    np.testing.assert_array_equal(session.finished.refined, first.refined)
    assert network.calls == 1


def test_a_picture_is_read(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(image))
    np.testing.assert_array_equal(read_upload(path, 1.0), image)


def test_a_file_that_is_no_picture_is_named_without_its_folder(tmp_path):
    path = tmp_path / "letter.png"
    path.write_text("dear reader")
    with pytest.raises(UnreadableImageError, match="not an image") as caught:
        read_upload(path, 1.0)
    assert str(tmp_path) not in str(caught.value)
    assert "letter.png" in str(caught.value)


def test_a_large_file_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(bytes(20_000))
    with pytest.raises(UnreadableImageError, match=r"a\.png: .*more than the limit of 0\.01 MB"):
        read_upload(path, 0.01)


def test_a_token_gives_its_session_back_until_it_is_discarded():
    store = SessionStore()
    session, other = session_of(2, 2), session_of(2, 2)
    token, other_token = store.add(session), store.add(other)
    assert store.get(token) is session
    store.discard(token)
    store.discard(token)
    store.discard(None)
    assert store.get(token) is None
    assert store.get(None) is None
    assert store.get("guess") is None
    assert store.get(other_token) is other


def test_the_session_unused_for_longest_makes_room():
    store = SessionStore(capacity=2)
    first, second = store.add(session_of(2, 2)), store.add(session_of(2, 2))
    store.get(first)
    third = store.add(session_of(2, 2))
    assert [store.get(token) is not None for token in (first, second, third)] == [True, False, True]


def test_pixels_of_all_sessions_are_bounded_but_one_is_always_kept():
    store = SessionStore(megapixels=3e-4)
    small, middle = store.add(session_of(10, 10)), store.add(session_of(10, 20))
    assert store.get(small) is not None
    assert store.get(middle) is not None
    large = store.add(session_of(20, 20))
    assert store.get(small) is None
    assert store.get(middle) is None
    assert store.get(large) is not None
