"""A module for each data source, with `validate(options)` and `examples(options, split, seed)`."""
