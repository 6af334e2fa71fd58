"""The one exception whose text is meant for the person at the keyboard."""


class UserError(Exception):
    """Bad input or a missing resource; the message is one sentence: what is wrong, where, what to do."""


class Interrupted(UserError):
    """Work that stopped through no fault of its own and goes on, when started again, from what was saved."""
