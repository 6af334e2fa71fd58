"""The exceptions whose text is meant for the person at the keyboard, and what those of others say in a line."""


class UserError(Exception):
    """Bad input or a missing resource; the message is one sentence: what is wrong, where, what to do."""


class Interrupted(UserError):
    """Work that stopped through no fault of its own and goes on, when started again, from what was saved."""


def first_line(error: Exception) -> str:
    """The first line of an exception's text, or its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
