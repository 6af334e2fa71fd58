"""Pages whose numbers are cells of the published tables, and the site that is made of all pages.

A page with numbers has a template at `docs/templates/<path of the page>`, in Jinja2; `private-lora docs` writes the page. A
number in its prose is an error (`prose`): it comes from one of these, and a table, file or name that is not there is an error
too.

- `cell("knowledge", "step_time_s_median", ".2f s", model="smollm2", backend="packed")`: the cell of the one row of a table that
  agrees. Shown in a format of Python's, then words, of which the first may be a unit to convert to (`s`, `minutes`, `MB`, `%`):
  `.1f MB a token`. Without a format: three digits, and the unit that the column's name says.
- `rows("knowledge", backend=["float", "packed"])`: all rows that agree, to loop over; `cell(row, "exact_match_after_percent")`.
- `table("knowledge", {"backend": "backend", "a step": ("step_time_s_median", ".2f s")}, model="smollm2")`: a Markdown table.
- `chosen(2048)`: a value by which a cell of this page was chosen, such as the tokens of a step.
- `figure("knowledge", "what it shows, for who cannot see it")`: the image, which is copied to `docs/images`.
- `spec(row, "data_options.people")`: a setting of the recorded run whose row it is. `estimate(row)`: what was estimated of it.
- `config("training.steps")`, `config("...", file="config/studies/real_llm.yaml")`: what a configuration has.
- `code("crypto.parameters:NAME")`: a constant of the code.
- `reference("value", metric="step_time_s", configuration="...")`: a published value, of `resources/reference`.
- `gpu()`: that no row is measured on a GPU, and nothing once there is one.
- `stated("10", "why this needs no record")`: a target or a definition.

Each page ends with where its numbers come from: records, machine, commit and date of the runs behind its cells.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    pages="Pages write_pages",
    prose="numbers_in",
    site="build_site",
)
