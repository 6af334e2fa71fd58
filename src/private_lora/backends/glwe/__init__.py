"""The published scheme, through concrete-ml-extensions, and its simulation."""
