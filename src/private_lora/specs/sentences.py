"""What pydantic refuses, in one sentence: path of the value, what it must be, what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from private_lora.core.errors import UserError
from private_lora.core.names import check_name

KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
# In a path, what chooses between kinds of a value and is no part of the configuration.
TAG = "("


def sentence(error: ValidationError) -> str:
    """The complaint about a spec, such as `steps must be a whole number, not 'ten'`."""
    path, text, names_its_value = complaint(error)
    if not path or names_its_value:
        return text
    return f"{path} {text}" if text.startswith("must") else f"{path}: {text}"


def complaint(error: ValidationError) -> tuple[str, str, bool]:
    """Path of the first value that was refused, what it must be, and whether that says by itself which value is meant."""
    # A key that is not known explains one that is missing.
    details = sorted(error.errors(include_url=False), key=lambda e: e["type"] not in ("unknown_key", "extra_forbidden"))[0]
    location = [part for part in details["loc"] if not str(part).startswith(TAG)]
    if details["type"] in ("missing", "extra_forbidden"):
        key = location.pop()
        text = f"key {key!r} is missing" if details["type"] == "missing" else f"unknown key {key!r}"
        return path_of(location), text, False
    if details["type"] == "value_error":
        return path_of(location), str(details["ctx"]["error"]), True
    return path_of(location), _expected(details), False


def path_of(parts: Iterable) -> str:
    """`sweep.groups[0].bits[1]`."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _expected(details: ErrorDetails) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind in KINDS:
        return f"must be {KINDS[kind]}, not {'empty' if value is None else repr(value)}{_number_hint(kind, value)}"
    match kind:
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, not {value!r}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}, not {value!r}"
        case "literal_error":
            names = context["expected"].replace(" or ", ", ").replace("'", "")
            return f"must be {'one of ' if ', ' in names else ''}{names}, not {value!r}"
        case "too_short" | "string_too_short":
            return "must not be empty"
    return details["msg"]


def _number_hint(kind: str, value) -> str:
    """YAML 1.1 reads 2e-3 as text, which nobody expects."""
    if not isinstance(value, str) or kind not in ("int_type", "float_type"):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return " (that is text: a number has no quotes in YAML, and a dot before its e)"


def check_keys(mapping, known: Iterable[str]):
    """The mapping; raises what pydantic reports with its path when a key is none of the known ones."""
    known = list(known)
    unknown = [key for key in mapping if key not in known] if isinstance(mapping, dict) else []
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        text = f"unknown key {unknown[0]!r}{hint} (known are {', '.join(known)})"
        raise PydanticCustomError("unknown_key", "{text}", {"text": text})
    return mapping


def unique(values):
    """The list; raises what pydantic reports with its path when something is in it twice."""
    if isinstance(values, list) and any(value in values[:i] for i, value in enumerate(values)):
        raise PydanticCustomError("not_unique", "{text}", {"text": f"must not list anything twice, as {values!r} does"})
    return values


def one_of(what: str, known: Iterable[str]):
    """The type of a name; one that is not known is refused with those that are."""

    def check(name: str) -> str:
        return valid(check_name, what, name, known) or name

    return Annotated[str, AfterValidator(check), Field(examples=list(known))]


def valid(check: Callable, *arguments, **keywords):
    """What `check` returns; its UserError becomes what pydantic reports with a path."""
    try:
        return check(*arguments, **keywords)
    except UserError as error:
        raise ValueError(str(error)) from None
