"""What is shown of the records: tables, figures, claims.

Reads rows and computes nothing that was not recorded, except what it says it derives.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    tables="TABLES make_table",
    figures="FIGURES make_figure",
)
