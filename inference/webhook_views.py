"""Webhooks in the console: endpoints, what was sent to them, and what they said."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import lists
from accounts.errors import MercatoError
from accounts.sessions import ConsoleRequest, organization_required, owner_required
from inference.errors import TooManyWebhooksError
from inference.models import WebhookDelivery, WebhookEndpoint
from inference.webhooks import deliveries, endpoints, events


class EndpointForm(forms.Form):
    """Where events go, and which."""

    url = forms.CharField(
        label=_("URL"),
        max_length=500,
        widget=forms.TextInput(
            attrs={"class": "input", "inputmode": "url", "placeholder": "https://"}
        ),
    )
    description = forms.CharField(
        label=_("Description"),
        max_length=120,
        required=False,
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    events = forms.MultipleChoiceField(
        label=_("Events"),
        required=False,
        help_text=_("None chosen: all, also those that come later."),
        widget=forms.CheckboxSelectMultiple(attrs={"class": "checkbox checkbox-sm"}),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        field = self.fields["events"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [
            (each.name, f"{each.name}: {each.description}")
            for each in events.types()
            if each.name != events.PING
        ]


@require_GET
@organization_required
def webhooks(request: ConsoleRequest) -> HttpResponse:
    """Show the organization's endpoints."""
    return render(request, "console/webhooks.html", _page(request, EndpointForm()))


@never_cache
@require_POST
@owner_required
def webhook_create(request: ConsoleRequest) -> HttpResponse:
    """Make an endpoint and show its secret in this one answer."""
    form = EndpointForm(request.POST)
    if form.is_valid():
        try:
            endpoint, secret = endpoints.create(
                request.organization,
                form.cleaned_data["url"],
                event_types=form.cleaned_data["events"],
                description=form.cleaned_data["description"],
                actor=request.user,
            )
        except MercatoError as error:
            form.add_error("url", _in_words(error))
        else:
            page = {"section": "webhooks", "endpoint": endpoint, "secret": secret}
            return render(request, "console/webhook_secret.html", page)
    return render(request, "console/webhooks.html", _page(request, form), status=422)


@require_GET
@organization_required
def webhook(request: ConsoleRequest, endpoint_id: UUID) -> HttpResponse:
    """Show one endpoint and what was sent to it."""
    endpoint = _endpoint(request, endpoint_id)
    found = lists.newest(endpoint.deliveries.prefetch_related("log"), request.GET.get("before"))
    page = {
        "section": "webhooks",
        "endpoint": endpoint,
        "secret_ids": endpoints.secret_ids(endpoint),
        "deliveries": found.rows,
        "older": found.older,
        "is_first": found.is_first,
    }
    return render(request, "console/webhook.html", page)


@require_GET
@organization_required
def delivery(request: ConsoleRequest, endpoint_id: UUID, delivery_id: UUID) -> HttpResponse:
    """Show one delivery: what was sent, and what was answered."""
    endpoint = _endpoint(request, endpoint_id)
    found = get_object_or_404(endpoint.deliveries, pk=delivery_id)
    page = {"section": "webhooks", "endpoint": endpoint, "delivery": found}
    return render(request, "console/webhook_delivery.html", page)


@require_POST
@owner_required
def webhook_ping(request: ConsoleRequest, endpoint_id: UUID) -> HttpResponse:
    """Send a test event."""
    made = endpoints.ping(_endpoint(request, endpoint_id))
    messages.success(request, gettext("A test event is on its way."))
    return redirect("webhook_delivery", endpoint_id, made.pk)


@never_cache
@require_POST
@owner_required
def webhook_rotate(request: ConsoleRequest, endpoint_id: UUID) -> HttpResponse:
    """Make a new secret and show it in this one answer."""
    endpoint = _endpoint(request, endpoint_id)
    secret = endpoints.rotate(endpoint, actor=request.user)
    page = {"section": "webhooks", "endpoint": endpoint, "secret": secret, "is_rotated": True}
    return render(request, "console/webhook_secret.html", page)


@require_POST
@owner_required
def webhook_switch(request: ConsoleRequest, endpoint_id: UUID) -> HttpResponse:
    """Switch an endpoint on or off."""
    is_active = request.POST.get("active") == "1"
    endpoints.update(_endpoint(request, endpoint_id), is_active=is_active, actor=request.user)
    return redirect("webhook", endpoint_id)


@require_POST
@owner_required
def webhook_delete(request: ConsoleRequest, endpoint_id: UUID) -> HttpResponse:
    """Delete an endpoint."""
    endpoints.delete(_endpoint(request, endpoint_id), actor=request.user)
    messages.success(request, gettext("The webhook is deleted."))
    return redirect("webhooks")


@require_POST
@owner_required
def webhook_redeliver(
    request: ConsoleRequest, endpoint_id: UUID, delivery_id: UUID
) -> HttpResponse:
    """Send an event again."""
    found = get_object_or_404(_endpoint(request, endpoint_id).deliveries, pk=delivery_id)
    deliveries.redeliver(found)
    messages.success(request, gettext("The event is sent again."))
    return redirect("webhook_delivery", endpoint_id, delivery_id)


def _page(request: ConsoleRequest, form: EndpointForm) -> dict[str, Any]:
    mine = list(WebhookEndpoint.objects.visible_to(request.organization))
    newest: dict[UUID, WebhookDelivery] = {}
    # At most endpoints.MAX_ENDPOINTS.
    for endpoint in mine:
        last = endpoint.deliveries.first()
        if last is not None:
            newest[endpoint.pk] = last
    lines = [{"endpoint": each, "last": newest.get(each.pk)} for each in mine]
    return {"section": "webhooks", "form": form, "lines": lines}


def _in_words(error: MercatoError) -> str:
    if isinstance(error, TooManyWebhooksError):
        return gettext("There are as many webhooks as there may be. Delete one first.")
    return gettext(
        "This URL cannot be used: it must begin with https:// and lead to a public address, on "
        "port 443 or 8443."
    )


def _endpoint(request: ConsoleRequest, endpoint_id: UUID) -> WebhookEndpoint:
    mine = WebhookEndpoint.objects.visible_to(request.organization).select_related("organization")
    return get_object_or_404(mine, pk=endpoint_id)
