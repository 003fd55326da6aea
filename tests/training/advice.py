"""What the advice of a run that stops itself must be like."""

import re

from sempart_jax.host.config_fields import flatten


def assert_advice_can_be_followed(message, default):
    """Its flags exist and are whole, and it sends to a new folder: the old one refuses changes."""
    assert "in a new --workdir" in message
    fields = re.findall(r"--config\.([a-z_.]*[a-z_])", message)
    assert fields
    assert set(fields) <= set(flatten(default)), message
    rest = re.sub(r"--config\.[a-z_.]+", "", message)
    assert not re.search(r"[a-z]\.[a-z]|seed|learning_rate|tau\b", rest), rest
