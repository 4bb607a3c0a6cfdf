"""Checks what is sent against the SDK's own typed parameters.

A typing mistake, a parameter that the pinned version no longer has, or a value of the wrong kind
fails loudly here, long before Stripe would see it.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import parse_qsl

import typing_extensions
from stripe._request_options import RequestOptions

_INTEGER = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"-?\d+(\.\d+)?")
# Headers, not parameters, although the SDK's types mix them.
_OPTIONS = frozenset(RequestOptions.__annotations__)
_NAMES = {"StripeContext": object, "Mapping": Mapping, "Any": Any}


class ParamsError(Exception):
    """The request has a parameter that the SDK does not know: a mistake of ours.

    Not one of the SDK's exceptions: nothing may take it for a refusal and carry on.
    """


def decode(encoded: str) -> dict[str, Any]:
    """Return the nested form of `a[b][0][c]=d&…`, still as text."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True):
        steps = re.findall(r"[^\[\]]+", name)
        place = found
        for step in steps[:-1]:
            place = place.setdefault(step, {})
        place[steps[-1]] = value
    return found


def check(given: Mapping[str, Any], type_name: str) -> dict[str, Any]:
    """Return the parameters with their real types.

    Args:
        given: What `decode` found.
        type_name: A type of `stripe.params`, such as `checkout.SessionCreateParams`.

    Raises:
        ParamsError: A parameter is unknown, missing, or has no value of its type.
    """
    converted = _convert(dict(given), _type(type_name), type_name)
    assert isinstance(converted, dict)
    return converted


@functools.cache
def _type(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    return getattr(import_module(f"stripe.params.{module}".rstrip(".")), kind)


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = typing_extensions.get_type_hints(kind, None, _NAMES)
    return {name: hint for name, hint in hints.items() if name not in _OPTIONS}


def _convert(value: Any, hint: Any, at: str) -> Any:
    if typing_extensions.is_typeddict(hint):
        return _convert_fields(value, hint, at)
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _convert_union(value, get_args(hint), at)
    if origin is Literal:
        if value in get_args(hint):
            return value
    elif origin in {list, typing.List}:  # noqa: UP006  (what the SDK's types hold)
        return _convert_list(value, get_args(hint)[0], at)
    elif origin is dict:
        return _convert_dict(value, get_args(hint)[1], at)
    elif isinstance(value, str):
        return _convert_scalar(value, hint, at)
    raise ParamsError(f"{at}: {value!r} is not {hint}")


def _convert_fields(value: Any, kind: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ParamsError(f"{at}: {value!r} is not an object")
    known = _fields(kind)
    if unknown := value.keys() - known.keys():
        raise ParamsError(f"{at} has no {', '.join(sorted(unknown))}")
    if missing := kind.__required_keys__ - value.keys() - _OPTIONS:
        raise ParamsError(f"{at} needs {', '.join(sorted(missing))}")
    return {name: _convert(item, known[name], f"{at}.{name}") for name, item in value.items()}


def _convert_union(value: Any, options: tuple[Any, ...], at: str) -> Any:
    named = {word for each in options if get_origin(each) is Literal for word in get_args(each)}
    # The SDK adds `str` to each enumeration for words to come: only today's are right.
    is_closed = bool(named - {""})
    reasons = []
    for option in options:
        if option is str and is_closed:
            continue
        try:
            return _convert(value, option, at)
        except ParamsError as error:
            reasons.append(str(error))
    raise ParamsError("; ".join(reasons))


def _convert_dict(value: Any, hint: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ParamsError(f"{at}: {value!r} is not a dict")
    return {key: _convert(item, hint, f"{at}.{key}") for key, item in value.items()}


def _convert_list(value: Any, hint: Any, at: str) -> list[Any]:
    if not isinstance(value, dict) or list(value) != [str(i) for i in range(len(value))]:
        raise ParamsError(f"{at}: {value!r} is not a list")
    return [_convert(item, hint, f"{at}[{i}]") for i, item in value.items()]


def _convert_scalar(value: str, hint: Any, at: str) -> Any:
    if hint is str and value:
        return value
    if hint is int and _INTEGER.fullmatch(value):
        return int(value)
    if hint is bool and value in {"true", "false"}:
        return value == "true"
    if hint is Decimal and _DECIMAL.fullmatch(value):
        return Decimal(value)
    raise ParamsError(f"{at}: {value!r} is not {hint}")
