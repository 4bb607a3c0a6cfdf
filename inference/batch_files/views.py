"""The console's pages of batch files."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import lists
from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.sessions import (
    ConsoleRequest,
    maker_required,
    organization_required,
    organization_required_async,
)
from catalog.models.models import Task
from inference import stream_door
from inference.batch_files import downloads, orders, watching
from inference.batch_files.api import results_response
from inference.batch_files.errors import FAILURES
from inference.batch_files.forms import BatchFileForm
from inference.batch_files.serializers import percent
from inference.models import BatchFile

# As many failed rows as a person reads; the results have all of them.
_SHOWN_ROWS = 20


@require_GET
@organization_required
def batches(request: ConsoleRequest) -> HttpResponse:
    """Show the organization's batch files, newest first."""
    mine = BatchFile.objects.visible_to(request.organization).listed()
    found = lists.newest(mine, request.GET.get("before"))
    page = {
        "section": "batches",
        "batches": [{"batch": batch, "percent": percent(batch)} for batch in found.rows],
        "older": found.older,
        "is_first": found.is_first,
    }
    return render(request, "batches/batches.html", page)


@require_http_methods(["GET", "POST"])
@maker_required
def batch_new(request: ConsoleRequest) -> HttpResponse:
    """Show the form of a new batch file; take one."""
    if request.method == "GET":
        form = BatchFileForm(request.organization, initial={"model": request.GET.get("model")})
        page = _form_page(form) | {"refused": request.GET.get("refused")}
        return render(request, "batches/new.html", page)
    form = BatchFileForm(request.organization, request.POST, request.FILES)
    if form.is_valid():
        caller = Caller(request.organization.pk, request.organization.slug, user_id=request.user.pk)
        try:
            batch, _is_new = orders.create(caller, form.order(), form.cleaned_data["file"].chunks())
        except MercatoError as error:
            form.refuse(error)
        else:
            return redirect("batch", batch.pk)
    return render(request, "batches/new.html", _form_page(form), status=422)


def _form_page(form: BatchFileForm) -> dict[str, Any]:
    return {
        "section": "batches",
        "form": form,
        "max_rows": settings.BATCH_MAX_ROWS,
        "max_bytes": settings.BATCH_MAX_BYTES,
    }


@never_cache
@require_GET
@organization_required
def batch(request: ConsoleRequest, batch_id: UUID) -> HttpResponse:
    """Show one batch file: its estimate, how far it is, its results."""
    return render(request, "batches/batch.html", _page(_batch(request, batch_id)))


@never_cache
@require_GET
@organization_required
def batch_live(request: ConsoleRequest, batch_id: UUID) -> HttpResponse:
    """Answer with the part of the page that changes."""
    return render(request, "batches/_live.html", _page(_batch(request, batch_id)))


@require_GET
@organization_required_async
async def batch_events(request: ConsoleRequest, batch_id: UUID) -> HttpResponseBase:
    """Stream what happens to a batch file until it has ended."""
    mine = BatchFile.objects.visible_to(request.organization)
    if not await mine.filter(pk=batch_id).aexists():
        raise Http404
    return stream_door.respond(request, watching.stream(batch_id))


@require_GET
@organization_required_async
async def batch_results(request: ConsoleRequest, batch_id: UUID) -> HttpResponseBase:
    """Stream the results as a file."""
    batch = await BatchFile.objects.visible_to(request.organization).filter(pk=batch_id).afirst()
    if batch is None:
        raise Http404
    wanted = request.GET.get("as", batch.format)
    if wanted not in downloads.CONTENT_TYPES:
        raise Http404
    return results_response(batch, wanted)


@require_POST
@maker_required
def batch_start(request: ConsoleRequest, batch_id: UUID) -> HttpResponse:
    """Start a file, or let it try again; the page says what came of it."""
    try:
        orders.start(_batch(request, batch_id))
    except MercatoError as error:
        messages.error(request, error.message)
    return redirect("batch", batch_id)


@require_POST
@maker_required
def batch_cancel(request: ConsoleRequest, batch_id: UUID) -> HttpResponse:
    """End a file; one that has ended stays as it is."""
    try:
        orders.cancel(_batch(request, batch_id))
    except MercatoError as error:
        messages.error(request, error.message)
    return redirect("batch", batch_id)


@require_POST
@maker_required
def batch_delete(request: ConsoleRequest, batch_id: UUID) -> HttpResponse:
    """Remove a file that has ended, and its results."""
    try:
        orders.delete(_batch(request, batch_id))
    except MercatoError as error:
        messages.error(request, error.message)
        return redirect("batch", batch_id)
    messages.success(request, gettext("The batch file and its results are deleted."))
    return redirect("batches")


def _page(batch: BatchFile) -> dict[str, Any]:
    done = vars(batch)["done_rows"]
    failed = done - vars(batch)["succeeded_rows"]
    status = BatchFile.Status
    return {
        "section": "batches",
        "batch": batch,
        "price": batch.price_version,
        # Its texts may end early: the estimate is the most.
        "is_written": batch.model_version.model.task == Task.TEXT_GENERATION,
        "percent": percent(batch),
        "failed": failed,
        "failure": FAILURES.get(batch.error_code, ""),
        "failed_rows": downloads.failed_rows(batch, _SHOWN_ROWS) if failed else [],
        # What happens by itself: the page follows it.
        "is_moving": batch.status in (status.CHECKING, status.PROCESSING, status.PAUSED),
    }


def _batch(request: ConsoleRequest, batch_id: UUID) -> BatchFile:
    mine = BatchFile.objects.visible_to(request.organization).listed().defer(None)
    return get_object_or_404(mine.prefetch_related("price_version__components"), pk=batch_id)
