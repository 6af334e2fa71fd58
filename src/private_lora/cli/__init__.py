"""The command line: one command for each rule of the workflow, and the same by hand. Nothing imports it."""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    main="build_parser",
)
