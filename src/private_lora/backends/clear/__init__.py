"""Backends without encryption: `float` and `integer`, and the exact integer product."""
