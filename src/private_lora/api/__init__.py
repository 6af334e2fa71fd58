"""For scripts of one's own: a peft model that its user loaded, with its frozen linear layers elsewhere.

Must not know of specs of runs, studies or records: the user's script has the loop, the texts and the files.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(__name__, make="make_private", session="PrivateSession")
