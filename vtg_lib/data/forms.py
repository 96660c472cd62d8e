"""Checks what a file (YAML or JSON) says against a type, and complains in words that name the place."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import functools
import json
import os
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
NAMES = ("label", "key", "name", "id", "qid")  # fields by which an item of a list is called
WORDS = {  # pydantic's words -> ours
    "a valid array": "a list",
    "a valid dictionary": "a mapping",
    "an object": "a mapping",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid number": "a number",
    "a valid integer": "a whole number",
    "String should have at least 1 character": "some text",
}
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def check(kind: type[T] | TypeAdapter[T], value: Any, where: str) -> T:
    """`value`, as YAML or JSON gives it, as an instance of `kind`.

    Nothing is guessed: a number in quotes is no number, yes is no boolean, and a field that `kind` does not
    have is a mistake. Lists become tuples and mappings become dataclasses where `kind` says so.

    Args:
        kind: a dataclass, a pydantic model or any other type, or a `TypeAdapter` of one.
        value: mappings, lists, text, numbers, booleans, None; dates and paths count as text.
        where: what the message begins with, such as the file's name.

    Raises:
        ValueError: "where, field: expected ..., got ..." of the first fault.
    """
    adapter = kind if isinstance(kind, TypeAdapter) else cast("TypeAdapter[T]", _adapter(cast("Any", kind)))
    try:
        text = json.dumps(value, default=_plain)
    except TypeError as error:
        raise ValueError(f"{where}: expected values that JSON can hold, got {error}") from None
    try:
        return adapter.validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        fault = cast("dict[str, Any]", error.errors(include_url=False)[0])
        raise ValueError(_complaint(fault, adapter, value, where)) from None


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is none of the known ones: the nearest of them, and all."""
    known = list(map(str, known))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{name!r}{hint} expected one of {', '.join(known) or 'none'}"


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike | datetime.date):
        return str(value)
    raise TypeError(f"{type(value).__name__} {reprlib.repr(value)}")


def _complaint(fault: dict[str, Any], adapter: TypeAdapter[Any], value: Any, where: str) -> str:
    kind, path = fault["type"], list(fault["loc"])
    last = path.pop() if path and (kind in ("missing", *UNKNOWN) or path[-1] == "[key]") else None
    if last == "[key]":
        path.pop()
    place = ", ".join([where, *_places(value, path)])
    got = reprlib.repr(fault["input"])
    if kind in UNKNOWN:
        return f"{place}: unknown field {unknown(str(last), _fields(adapter, path))}"
    if kind == "missing":
        what = f"item {last + 1}" if isinstance(last, int) else f"field {last!r}"
        given = ", ".join(map(str, fault["input"])) or "nothing"
        return f"{place}: expected {what}, which is missing; got {given}"
    if kind == "value_error":  # raised by a check of ours, which says what was expected
        return f"{place}: {fault['ctx']['error']}"
    expected = fault["msg"].removeprefix("Input should be ")
    return f"{place}: expected {'the key to be ' if last else ''}{WORDS.get(expected, expected)}, got {got}"


def _places(value: Any, path: Iterable[str | int]) -> list[str]:
    """The parts of a path in words; what pydantic adds to it (the alternatives of a union) is left out."""
    found = []
    for part in path:
        if isinstance(value, Mapping) and part in value:
            found.append(str(part))
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            item = value[part]
            name = next((item[n] for n in NAMES if n in item), None) if isinstance(item, Mapping) else None
            found.append(f"item {part + 1}" + (f" ({name!r})" if name is not None else ""))
        else:
            continue
        value = value[part]
    return found


def _fields(adapter: TypeAdapter[Any], path: Iterable[str | int]) -> list[str]:
    """The fields that the type has at a path."""
    schema = adapter.json_schema()

    def options(node: Any) -> list[dict[str, Any]]:
        if not isinstance(node, dict):
            return []
        if "$ref" in node:
            return options(schema["$defs"][node["$ref"].rpartition("/")[2]])
        alternatives = node.get("anyOf", node.get("oneOf"))
        return (
            [node]
            if alternatives is None
            else [found for option in alternatives for found in options(option)]
        )

    nodes = options(schema)
    for part in path:
        inner = [
            child
            for node in nodes
            for child in (
                node.get("properties", {}).get(part),
                node.get("additionalProperties"),
                node.get("items"),
                *node.get("prefixItems", []),
            )
        ]
        # a part that pydantic adds for an alternative of a union leads nowhere
        nodes = [found for child in inner for found in options(child)] or nodes
    return list(dict.fromkeys(name for node in nodes for name in node.get("properties", {})))
