"""The console's page of workers: what each is, has loaded and has to do, and its buttons."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin import ReadOnlyAdmin, ReasonForm, deed, operator
from catalog.models import ModelVersion
from inference import fleet, queues, registry
from inference.connections import PREDICT_DB, redis_client
from inference.models import Placement, VersionStart, Worker
from inference.queues import Depth
from inference.registry import Member
from inference.runtime.memory import MIB

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

_MANY_VERSIONS = 500
_LATELY = 20
_LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,39}=[A-Za-z0-9_.-]{1,60}")


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """One version in a worker's memory."""

    pk: int
    path: str
    runtime: str
    size_bytes: int
    start_ms: int | None
    is_pinned: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One living worker as the page shows it."""

    worker: Worker
    state: str
    tone: str
    versions: list[LoadedVersion]
    starting: list[str]
    depth: Depth | None
    running: int | None

    @property
    def used_bytes(self) -> int:
        """Bytes of all loaded models."""
        return sum(version.size_bytes for version in self.versions)

    @property
    def used_percent(self) -> int:
        """How much of the room for models is taken, 0 to 100."""
        return min(100, 100 * self.used_bytes // max(self.worker.capacity_bytes, 1))


_TONES = {
    registry.ACTIVE: "success",
    registry.CORDONED: "warning",
    registry.DRAINING: "warning",
    registry.DRAINED: "info",
}


def cards() -> list[Card]:
    """Return the living workers, predict workers first."""
    workers = sorted(
        Worker.objects.alive(), key=lambda each: (each.kind != Worker.Kind.PREDICT, each.name)
    )
    client = redis_client(PREDICT_DB)
    try:
        members = {each.name: each for each in registry.read(client, settings.PREDICT_POOL)}
    except (redis.RedisError, ValueError):
        members = {}
    ids = {item["id"] for worker in workers for item in worker.loaded if "id" in item}
    ids |= {key for member in members.values() for key in member.starting}
    paths = {
        version.pk: version.path
        for version in ModelVersion.objects.filter(pk__in=ids).select_related("model__owner")
    }
    kept = set(Placement.objects.filter(is_pinned=True).values_list("pk", flat=True))
    starts = dict(VersionStart.objects.filter(pk__in=ids).values_list("pk", "start_ms"))
    return [_card(each, members.get(each.name), paths, kept, starts) for each in workers]


def _card(
    worker: Worker,
    member: Member | None,
    paths: dict[int, str],
    kept: set[int],
    starts: dict[int, int],
) -> Card:
    state = member.duty if member else worker.duty
    is_predict = worker.kind == Worker.Kind.PREDICT
    return Card(
        worker=worker,
        state=state,
        tone=_TONES.get(state, "info"),
        versions=[
            LoadedVersion(
                pk=item.get("id", 0),
                path=item["version"],
                runtime=item["runtime"],
                size_bytes=item["bytes"],
                start_ms=starts.get(item.get("id", 0)),
                is_pinned=item.get("id") in kept,
            )
            for item in worker.loaded
        ],
        starting=[paths[key] for key in member.starting if key in paths] if member else [],
        depth=queues.pending(redis_client(PREDICT_DB), worker.name) if is_predict else None,
        running=member.running if member else None,
    )


def _version_form(
    versions: list[tuple[int, str]],
    initial: str,
    label: StrOrPromise,
    base: type[ReasonForm] = ReasonForm,
) -> type[ReasonForm]:
    """Return a form that asks for one of these versions and a reason."""
    field = forms.TypedChoiceField(
        label=label,
        choices=versions,
        coerce=int,
        initial=initial,
        widget=UnfoldAdminSelectWidget,
    )
    return type("VersionForm", (base,), {"version": field})


class LabelsForm(ReasonForm):
    """Which workers may load a version, and why."""

    labels = forms.CharField(
        label=_("Only on workers with these labels"),
        required=False,
        max_length=300,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "gpu=1,zone=a"}),
    )

    def clean_labels(self) -> dict[str, str]:
        """Read `name=value,name=value`."""
        parts = [part.strip() for part in self.cleaned_data["labels"].split(",") if part.strip()]
        if not all(_LABEL.fullmatch(part) for part in parts):
            raise forms.ValidationError(_("Labels are written like zone=a,gpu=1."))
        return dict(part.split("=", 1) for part in parts)


def _offered() -> list[tuple[int, str]]:
    found = ModelVersion.objects.filter(status=ModelVersion.Status.PUBLISHED)
    newest = found.select_related("model__owner").order_by("-pk")[:_MANY_VERSIONS]
    return sorted(((version.pk, version.path) for version in newest), key=lambda one: one[1])


def _of(path_by_id: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(item["id"], item["version"]) for item in path_by_id if "id" in item]


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Worker processes: who is alive, what they have loaded, and what they are to do."""

    actions_detail = ["drain", "cordon", "uncordon", "unload", "pin", "unpin"]
    search_fields = ["name"]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the fleet."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        gone = Worker.objects.exclude(pk__in=Worker.objects.alive()).order_by("-seen_at")
        client = redis_client(PREDICT_DB)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Workers"),
            "opts": self.opts,
            "cards": cards(),
            "gone": gone[:_LATELY],
            "pool": settings.PREDICT_POOL,
            "shared": queues.depth(client, registry.shared_queue(settings.PREDICT_POOL)),
            "may_operate": self.has_operate_permission(request),
            "mib": MIB,
        }
        return TemplateResponse(request, "admin/fleet.html", context)

    def _is_predict(self, request: HttpRequest, pk: Any) -> bool:
        living = Worker.objects.alive().filter(pk=pk, kind=Worker.Kind.PREDICT)
        return self.has_operate_permission(request) and living.exists()

    has_predict_permission = _is_predict

    def _duty(
        self,
        request: HttpRequest,
        object_id: str,
        verb: Callable[..., bool],
        title: StrOrPromise,
        explain: StrOrPromise,
    ) -> HttpResponse:
        def do(worker: Worker, form: dict[str, Any]) -> StrOrPromise:
            if verb(worker, actor=operator(request), reason=form["reason"]):
                return _("The worker is told, and does so within a second.")
            return _("It does so already.")

        return self.perform(request, object_id, title=title, explain=explain, do=do)

    @deed(_("Drain"), icon="hourglass_bottom", permission="predict")
    def drain(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have the worker finish, for a reason."""
        explain = _("It finishes what it was given and takes nothing new. Then it can be stopped.")
        return self._duty(request, object_id, fleet.drain, _("Drain this worker"), explain)

    @deed(_("Cordon"), icon="block", permission="predict")
    def cordon(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have the worker load nothing more, for a reason."""
        explain = _("It serves the models it has loaded and takes no others.")
        return self._duty(request, object_id, fleet.cordon, _("Cordon this worker"), explain)

    @deed(_("Uncordon"), icon="play_arrow", permission="predict")
    def uncordon(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have the worker take whatever comes, for a reason."""
        explain = _("It takes whatever comes, also after it was drained.")
        return self._duty(request, object_id, fleet.uncordon, _("Uncordon this worker"), explain)

    @deed(_("Unload"), icon="eject", permission="predict")
    def unload(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have the worker forget a version, for a reason."""
        row = Worker.objects.filter(pk=object_id).first()

        def do(worker: Worker, form: dict[str, Any]) -> StrOrPromise:
            version = ModelVersion.objects.get(pk=form["version"])
            fleet.unload(worker, version, actor=operator(request), reason=form["reason"])
            return _("The worker is told, and does so within a second.")

        return self.perform(
            request,
            object_id,
            title=_("Unload a model"),
            explain=_("Its memory becomes free. The next call loads it again."),
            do=do,
            form_class=_version_form(
                _of(row.loaded) if row else [], request.GET.get("version", ""), _("Model")
            ),
        )

    def _pinning(
        self,
        request: HttpRequest,
        object_id: str,
        verb: Callable[..., bool],
        title: StrOrPromise,
        explain: StrOrPromise,
        base: type[ReasonForm] = ReasonForm,
    ) -> HttpResponse:
        def do(_worker: Worker, form: dict[str, Any]) -> StrOrPromise:
            version = ModelVersion.objects.get(pk=form["version"])
            more = {"labels": form["labels"]} if "labels" in form else {}
            if verb(version, actor=operator(request), reason=form["reason"], **more):
                return _("All workers are told, and do so within seconds.")
            return _("That is so already.")

        asked = request.GET.get("version", "")
        form_class = _version_form(_offered(), asked, _("Model"), base)
        return self.perform(
            request, object_id, title=title, explain=explain, do=do, form_class=form_class
        )

    @deed(_("Pin"), icon="keep", permission="predict")
    def pin(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Keep a version loaded on all workers, for a reason."""
        explain = _("Every predict worker loads it when it starts and keeps it.")
        title = _("Pin a model")
        return self._pinning(request, object_id, fleet.pin, title, explain, LabelsForm)

    @deed(_("Unpin"), icon="keep_off", permission="predict")
    def unpin(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let a version be unloaded, for a reason."""
        explain = _(
            "It may be unloaded again when others need the memory, or nobody calls it. The labels "
            "that it asks for stay."
        )
        return self._pinning(request, object_id, fleet.unpin, _("Unpin a model"), explain)
