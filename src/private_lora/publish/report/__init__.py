"""The report of a study: one page of questions, each with its answer, figures, and tables that can be traced.

Reads what was published (tables, figures) and the sidecars of the runs behind it; it computes no number that is not in a table.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(__name__, page="write_report")
