"""Which paths the fake answers, and how it says no."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from billing.stripe.fake.store import Body, World

Handler = Callable[..., Body]


class UnknownRouteError(Exception):
    """The fake does not know this path: a call was added to the gateway and not here.

    Not one of the SDK's exceptions: nothing may take it for a refusal and carry on.
    """


class Refusal(Exception):  # noqa: N818  (an answer, not a failure)
    """Stripe says no; the answer is kept under the request's key like any other."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int = 400,
        kind: str = "invalid_request_error",
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: Body = {"error": {"type": kind, "message": message, **more}}
        if code:
            self.body["error"]["code"] = code


class Route:
    """A method and a path, the SDK's type of its parameters, and what it does."""

    def __init__(self, method: str, path: str, params: str, handler: Handler) -> None:
        self.method = method
        self.path = path
        self.params = params
        self.handler = handler
        self.pattern = re.compile(re.sub(r"{\w+}", "([^/]+)", path))


ROUTES: list[Route] = []
# The connected account that a request is about: a header, shown to routes as a parameter.
ACCOUNT = "Stripe-Account"


def route(method: str, path: str, params: str) -> Callable[[Handler], Handler]:
    """Answer a path: the function gets the world, the checked parameters and the path's ids."""

    def add(handler: Handler) -> Handler:
        ROUTES.append(Route(method, path, params, handler))
        return handler

    return add


def resolve(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """Return who answers, and the ids of the path.

    Raises:
        UnknownRouteError: Nobody does.
    """
    for each in ROUTES:
        if each.method == method and (match := each.pattern.fullmatch(path)):
            return each, match.groups()
    raise UnknownRouteError(f"{method} {path}")


def need(world: World, name: str, kind: str) -> Body:
    """Return an object that must exist.

    Raises:
        Refusal: It does not.
    """
    found = world.find(name, kind)
    if found is None:
        raise Refusal(f"No such {kind}: '{name}'", code="resource_missing", status=404)
    return found


def page(found: list[Body], given: Body, path: str) -> Body:
    """Return a list as Stripe pages it: newest first, after a cursor, between two times."""
    kept = [each for each in found if _in_time(each["created"], given.get("created"))]
    if after := given.get("starting_after"):
        names = [each["id"] for each in kept]
        if after not in names:
            raise Refusal(f"No such object: '{after}'", code="resource_missing")
        kept = kept[names.index(after) + 1 :]
    limit = given.get("limit", 10)
    return {
        "object": "list",
        "url": path,
        "data": kept[:limit],
        "has_more": len(kept) > limit,
    }


def _in_time(created: int, bounds: Any) -> bool:
    if bounds is None:
        return True
    if isinstance(bounds, int):
        return created == bounds
    return bool(
        bounds.get("gte", created) <= created <= bounds.get("lte", created)
        and bounds.get("gt", created - 1) < created < bounds.get("lt", created + 1)
    )


def expand(world: World, body: Body, paths: list[str]) -> Body:
    """Replace ids by the objects they name, as `expand` asks.

    Raises:
        Refusal: A field that is not there, or is no id.
    """
    for path in paths:
        _expand(world, body, path.split("."))
    return body


def _expand(world: World, body: Body, steps: list[str]) -> None:
    step, rest = steps[0], steps[1:]
    if step not in body:
        raise Refusal(f"This property cannot be expanded ({step}).")
    if isinstance(body[step], list):
        for each in body[step]:
            _expand(world, each, rest)
        return
    if isinstance(body[step], str):
        body[step] = world.find(body[step]) or body[step]
    if rest and isinstance(body[step], dict):
        _expand(world, body[step], rest)
