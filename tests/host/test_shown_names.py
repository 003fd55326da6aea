import os

from sempart_jax.host.shown_names import printable, shorten


def test_paths_are_shown_on_one_line():
    assert printable("/a b/é.jpg") == "/a b/é.jpg"
    assert printable("two\nlines") == r"'two\nlines'"
    assert printable(os.fsdecode(b"\xe9")) == r"'\udce9'"


def test_names_are_listed_up_to_five():
    assert shorten(["a", "two\nlines"]) == r"a, 'two\nlines'"
    assert shorten(list("abcde")) == "a, b, c, d, e"
    assert shorten(list("abcdefg")) == "a, b, c, d, e and 2 more"
