"""For trying out: certificates of two authorities, and a relay that shapes a connection."""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    certificates="make_certificates",
    link="Link serve",
)
