"""Flags of a command from the fields of a spec: name, type and help are said once, there."""

from __future__ import annotations

import json
import types
from argparse import BooleanOptionalAction
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from private_lora.specs.base import Spec


def add_fields(parser, kind: type[Spec], required: bool = False) -> None:
    """A flag for each field. required: those without a default must be given."""
    for name, info in kind.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=_help(info), **_how(info, required and info.is_required()))


def given_fields(args, kind: type[Spec]) -> dict:
    """The fields whose flags were given."""
    return {name: getattr(args, name) for name in kind.model_fields if getattr(args, name) is not None}


def _help(info: FieldInfo) -> str:
    unsaid = [name for name in info.examples or () if name not in info.description]
    return f"{info.description}: {', '.join(unsaid)}" if unsaid else info.description


def _how(info: FieldInfo, required: bool) -> dict[str, Any]:
    kind = _plain(info.annotation)
    if kind is bool:
        return {"action": BooleanOptionalAction}
    return {"type": json.loads if kind in (dict, list) else kind, "required": required}


def _plain(annotation) -> type:
    """int, float, bool, str, dict or list, of whatever limits."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in (Union, types.UnionType):
        return _plain(next(a for a in arguments if a is not type(None)))
    return str if origin is Literal else origin or annotation
