"""The data owner's side: finds workers, asks them, checks their answers."""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    connection="Connection",
    workers="Patience Workers",
    remote="Asking RemotePlace",
    freivalds="AnswerCheck",
)
