"""The playground of models that write text: the answer arrives while it is written."""

from __future__ import annotations

from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.http import require_POST

from accounts import errors
from accounts.errors import MercatoError
from accounts.keys import Caller
from billing.models import Hold
from inference.answers import dumps
from inference.faces import openai_fields as fields
from inference.faces.requests import refuse_unknown
from inference.generation import asking, options, streams
from inference.generation.asking import Ask
from inference.views import caller_of

_FIELDS = frozenset({"prompt", "max_tokens", "temperature", "is_chat", "version"})


@require_POST
async def write(request: HttpRequest, owner: str, name: str) -> HttpResponseBase:
    """Continue a text for the signed-in person, as events in the form of /v1/completions."""
    request_id = getattr(request, "request_id", "")
    try:
        caller = await sync_to_async(caller_of)(request)
        begun = await asking.begin(_ask(request, caller, f"{owner}/{name}", request_id))
        answer = await streams.answer(
            begun, streams.CompletionStyle(), with_usage=True, request_id=request_id
        )
    except MercatoError as error:
        body = dumps(errors.body_of(error, request_id))
        return HttpResponse(body, status=error.status_code, content_type="application/json")
    assert answer.chunks is not None
    response = StreamingHttpResponse(answer.chunks, content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def _ask(request: HttpRequest, caller: Caller, ref: str, request_id: str) -> Ask:
    found = _fields(request)
    is_chat = fields.flag(found, "is_chat")
    version = options.whole(found, "version", 1, 999_999_999)
    prompt = options.text(found, "prompt")
    return Ask(
        caller=caller,
        ref=f"{ref}:{version}" if version else ref,
        prompt=f"{prompt}\n" if is_chat else prompt,
        choice=options.choice(found),
        request_id=request_id,
        source=Hold.Source.WEB,
        max_tokens=options.max_tokens(found, "max_tokens"),
        stops=("\n",) if is_chat else (),
        input_bytes=len(request.body),
    )


def _fields(request: HttpRequest) -> dict[str, Any]:
    try:
        found = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise errors.InvalidJSONError("The body is not valid JSON.") from error
    if not isinstance(found, dict):
        raise errors.InvalidJSONError("The body must be a JSON object.")
    refuse_unknown(found, _FIELDS)
    return found
