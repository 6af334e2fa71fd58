"""What crosses the network: protocol, streams, addresses, TLS, and what both sides compare first."""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    security="Address Tls",
    settings="Settings",
)
