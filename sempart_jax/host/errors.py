"""What a user can mend."""


class ExpectedError(Exception):
    """Told in one line by every entry point, without a traceback."""
