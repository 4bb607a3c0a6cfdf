"""The playground's Run."""

from __future__ import annotations

import orjson
from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from accounts import errors, limits, organizations
from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import Membership, User
from billing.models import Hold
from catalog.models import MLModel
from inference import predictions, starting
from inference.answers import Answer, dumps
from inference.asynchronous import answering, wishes
from inference.faces.http import HttpAnswer
from inference.runtime import tensors


@require_POST
async def run(request: HttpRequest, owner: str, name: str) -> HttpResponse:
    """Run a model for the signed-in person, now or later; the answer is the API's."""
    request_id = getattr(request, "request_id", "")
    try:
        caller = await sync_to_async(caller_of)(request)
        call = _call(request, caller, f"{owner}/{name}", request_id)
        if call.wish is not None:
            return _http(await answering.answer(call, call.wish))
        answer = await predictions.predict(call)
    except MercatoError as error:
        body = dumps(errors.body_of(error, request_id))
        return HttpResponse(body, status=error.status_code, content_type="application/json")
    found = answer.as_json() if isinstance(answer, Answer) else answer.body
    response = HttpResponse(dumps(found), content_type="application/json")
    response["Mercato-Cost"] = answer.cost_text
    return response


def _http(answer: HttpAnswer) -> HttpResponse:
    """Return as Django's what the hot door would have sent."""
    response = HttpResponse(answer.body, answer.content_type.decode(), answer.status)
    for name, value in answer.headers:
        response[name.decode()] = value.decode()
    return response


@require_GET
def start(request: HttpRequest, owner: str, name: str) -> HttpResponse:
    """Tell the person who waits for a run whether the model is still starting."""
    model = MLModel.objects.published().filter(owner__slug=owner, name=name).first()
    if model is None or model.current_version_id is None:
        raise Http404
    return JsonResponse(starting.state(model.current_version_id))


def caller_of(request: HttpRequest) -> Caller:
    """Return whom the signed-in person acts for.

    Raises:
        AuthenticationError, PermissionDeniedError: Nobody, or who may not run models.
    """
    user = request.user
    if not isinstance(user, User):
        raise errors.AuthenticationError("Sign in to run this model.")
    organization = organizations.of_user(user).first()
    if organization is None:
        raise errors.PermissionDeniedError("Confirm your e-mail address first.")
    membership = Membership.objects.get(organization=organization, user=user)
    if membership.role == Membership.Role.VIEWER:
        raise errors.PermissionDeniedError("A viewer cannot run models.")
    return Caller(
        organization.pk, organization.slug, user_id=user.pk, limits=limits.of(organization)
    )


def _call(request: HttpRequest, caller: Caller, ref: str, request_id: str) -> predictions.Call:
    try:
        fields = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise errors.InvalidJSONError("The body is not valid JSON.") from error
    if not isinstance(fields, dict) or "input" not in fields:
        raise errors.InvalidRequestError("`input` is missing.", param="input")
    for field in fields.keys() - {"input", "version"}:
        raise errors.UnknownFieldError(f"Unknown field {field[:64]!r}.", param=field[:64])
    version = fields.get("version")
    if version is not None and (not isinstance(version, int) or version < 1):
        raise errors.InvalidRequestError("`version` must be a number.", param="version")
    return predictions.Call(
        caller=caller,
        ref=f"{ref}:{version}" if version else ref,
        decode=predictions.Given(tensors.decode, fields["input"]),
        source=Hold.Source.WEB,
        request_id=request_id,
        stored_input=fields["input"],
        wish=wishes.read(request.headers),
    )
