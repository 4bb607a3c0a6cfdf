"""The publisher's pages of which version serves what."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import MercatoError
from accounts.models import Organization
from accounts.sessions import ConsoleRequest, maker_required, organization_required
from catalog.models import MLModel
from inference.models import Canary, Shadow
from inference.traffic import aliases, canaries, shadows, watching
from inference.traffic.canaries import BOUNDS
from inference.traffic.forms import AliasForm, CanaryForm, ShadowForm

_HISTORY = 10


@require_GET
@organization_required
def traffic_list(request: ConsoleRequest) -> HttpResponse:
    """Show the organization's models with what is tried on them."""
    models = MLModel.objects.filter(owner=request.organization).select_related("current_version")
    tried = Canary.objects.filter(
        model__owner=request.organization, state=Canary.State.RUNNING
    ).select_related("version")
    shadowing = Shadow.objects.filter(
        model__owner=request.organization, state=Shadow.State.RUNNING
    ).select_related("version")
    by_model = {canary.model_id: canary for canary in tried}
    beside = {shadow.model_id: shadow for shadow in shadowing}
    rows = [
        {"model": model, "canary": by_model.get(model.pk), "shadow": beside.get(model.pk)}
        for model in models
    ]
    return render(request, "console/traffic.html", {"section": "traffic", "rows": rows})


@require_GET
@organization_required
def traffic_model(request: ConsoleRequest, name: str) -> HttpResponse:
    """Show aliases, canaries and shadows of one model."""
    page = _page(_model(request.organization, name))
    return render(request, "console/traffic_model.html", page)


@require_POST
@maker_required
def canary_set(request: ConsoleRequest, name: str) -> HttpResponse:
    """Try a version, or change how the one that runs is tried."""
    model = _model(request.organization, name)
    form = CanaryForm(request.POST, model=model)
    if form.is_valid():
        version, rule = form.cleaned_data["version"], form.rule()
        canary = model.canaries.filter(state=Canary.State.RUNNING, version=version).first()
        try:
            if canary is None:
                canaries.start(version, rule, actor=request.user)
            else:
                canaries.change(canary, rule, actor=request.user)
        except MercatoError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, _("Calls follow within five seconds."))
            return redirect("traffic_model", name)
    page = _page(model, canary_form=form)
    return render(request, "console/traffic_model.html", page, status=422)


@require_POST
@maker_required
def canary_end(request: ConsoleRequest, name: str) -> HttpResponse:
    """Promote or stop what is tried; what has ended stays as it is."""
    model = _model(request.organization, name)
    canary = model.canaries.filter(state=Canary.State.RUNNING).first()
    if canary is not None:
        if "promote" in request.POST:
            canaries.promote(canary, actor=request.user)
            messages.success(request, _("It is the current version now."))
        else:
            canaries.stop(canary, actor=request.user)
            messages.success(request, _("All calls go to the current version again."))
    return redirect("traffic_model", name)


@never_cache
@require_GET
@organization_required
def shadow_live(request: ConsoleRequest, name: str) -> HttpResponse:
    """Answer with the numbers of what runs copies of calls."""
    page = _shadow_page(_model(request.organization, name))
    return render(request, "console/_shadow.html", page)


@require_POST
@maker_required
def shadow_set(request: ConsoleRequest, name: str) -> HttpResponse:
    """Have a version run copies of calls, or change of how many."""
    model = _model(request.organization, name)
    form = ShadowForm(request.POST, model=model)
    if form.is_valid():
        version, percent = form.cleaned_data["version"], form.cleaned_data["percent"]
        try:
            shadows.put(version, percent, actor=request.user)
        except MercatoError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, _("Calls are copied within five seconds."))
            return redirect("traffic_model", name)
    page = _page(model, shadow_form=form)
    return render(request, "console/traffic_model.html", page, status=422)


@require_POST
@maker_required
def shadow_stop(request: ConsoleRequest, name: str) -> HttpResponse:
    """Copy no more calls; what has ended stays as it is."""
    model = _model(request.organization, name)
    shadow = model.shadows.filter(state=Shadow.State.RUNNING).first()
    if shadow is not None and shadows.stop(shadow, actor=request.user):
        messages.success(request, _("No more calls are copied."))
    return redirect("traffic_model", name)


@require_POST
@maker_required
def alias_set(request: ConsoleRequest, name: str) -> HttpResponse:
    """Let an alias mean a version."""
    model = _model(request.organization, name)
    form = AliasForm(request.POST, model=model)
    if form.is_valid():
        alias, version = form.cleaned_data["alias"], form.cleaned_data["version"]
        try:
            aliases.set_alias(model, alias, version, actor=request.user)
        except MercatoError as error:
            form.add_error("alias", error.message)
        else:
            messages.success(request, _("Calls follow within five seconds."))
            return redirect("traffic_model", name)
    page = _page(model, alias_form=form)
    return render(request, "console/traffic_model.html", page, status=422)


@require_POST
@maker_required
def alias_remove(request: ConsoleRequest, name: str) -> HttpResponse:
    """Remove an alias."""
    model = _model(request.organization, name)
    aliases.remove(model, request.POST.get("alias", "")[:31], actor=request.user)
    return redirect("traffic_model", name)


def _model(organization: Organization, name: str) -> MLModel:
    found = MLModel.objects.select_related("owner", "current_version")
    return get_object_or_404(found, owner=organization, name=name)


def _canary_form(model: MLModel) -> CanaryForm:
    """Return the form with the rule of what is tried, or the usual one."""
    running = model.canaries.filter(state=Canary.State.RUNNING).select_related("version").first()
    if running is None:
        return CanaryForm(model=model)
    rule = {name: getattr(running, name) for name in BOUNDS}
    return CanaryForm(model=model, initial=rule | {"version": running.version.number})


def _shadow_form(model: MLModel) -> ShadowForm:
    """Return the form with what runs copies now, or with nothing chosen."""
    running = model.shadows.filter(state=Shadow.State.RUNNING).select_related("version").first()
    if running is None:
        return ShadowForm(model=model)
    initial = {"percent": running.percent, "version": running.version.number}
    return ShadowForm(model=model, initial=initial)


def _shadow_page(model: MLModel) -> dict[str, Any]:
    history = list(model.shadows.select_related("version")[:_HISTORY])
    shadow = next((each for each in history if each.state == Shadow.State.RUNNING), None)
    return {
        "model": model,
        "shadow": shadow,
        "shadow_counts": shadows.running(model) is not None,
        "shadow_history": [each for each in history if each != shadow],
    }


def _page(
    model: MLModel,
    *,
    canary_form: CanaryForm | None = None,
    shadow_form: ShadowForm | None = None,
    alias_form: AliasForm | None = None,
) -> dict[str, Any]:
    history = list(model.canaries.select_related("version")[:_HISTORY])
    running = next((each for each in history if each.state == Canary.State.RUNNING), None)
    return {
        "section": "traffic",
        "aliases": model.aliases.select_related("version"),
        "canary": running,
        "measured": watching.measure(running) if running else None,
        "history": [each for each in history if each != running],
        "canary_form": canary_form or _canary_form(model),
        "shadow_form": shadow_form or _shadow_form(model),
        "alias_form": alias_form or AliasForm(model=model),
        **_shadow_page(model),
    }
