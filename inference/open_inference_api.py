"""GET /v2 and /v2/models/…: what the Open Inference Protocol says of the site and of models."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.models import ModelVersion
from inference import placing
from inference.api import callable_version, published_numbers
from inference.errors import NoWorkerError
from inference.labels import satisfy
from inference.models import Worker
from inference.protocol_serializers import (
    InferenceModelSerializer,
    InferenceServerSerializer,
    ModelReadySerializer,
)
from inference.runtime.open_inference import DATATYPES, shape_of
from inference.runtime.signature import Signature, TensorSpec

VERSION = "1"
EXTENSIONS = ["binary_tensor_data", "classification"]
_PLATFORMS: dict[str, str] = {
    ModelVersion.Runtime.ONNX: "onnxruntime_onnx",
    ModelVersion.Runtime.TENSORFLOW: "tensorflow_savedmodel",
}


class Server(APIView):
    """What this server speaks."""

    scope = "read"

    @extend_schema(operation_id="v2_server", responses=InferenceServerSerializer)
    def get(self, request: Request) -> Response:
        """Return the server's name and the protocol's extensions that it knows."""
        return Response({"name": "mercato", "version": VERSION, "extensions": EXTENSIONS})


class ModelMetadata(APIView):
    """One model, or one of its versions."""

    scope = "read"

    @extend_schema(operation_id="v2_model", responses=InferenceModelSerializer)
    def get(self, request: Request, owner: str, name: str, number: int | None = None) -> Response:
        """Return inputs and outputs with datatype and shape; -1 is the number of rows."""
        version = callable_version(request, owner, name, number)
        return Response(as_json(version, published_numbers(version.model)))


@extend_schema_view(get=extend_schema(operation_id="v2_model_version"))
class VersionMetadata(ModelMetadata):
    """What one version takes and gives."""


class ModelReady(APIView):
    """Whether a model can be called now."""

    scope = "read"

    @extend_schema(operation_id="v2_model_ready", responses=ModelReadySerializer)
    def get(self, request: Request, owner: str, name: str, number: int | None = None) -> Response:
        """Answer if a worker lives that can load it; else refuse with 503."""
        version = callable_version(request, owner, name, number)
        alive = Worker.objects.alive().filter(kind=Worker.Kind.PREDICT)
        needed = placing.needed(version.pk)
        if not any(satisfy(each, needed) for each in alive.values_list("labels", flat=True)):
            raise NoWorkerError("No worker is alive that can run it.")
        return Response({"name": model_name(version), "ready": True})


@extend_schema_view(get=extend_schema(operation_id="v2_model_version_ready"))
class VersionReady(ModelReady):
    """Whether one version can be called."""


def model_name(version: ModelVersion) -> str:
    """Return the name that a model has in this protocol, whose names have no slash."""
    return version.model.path.replace("/", ".")


def as_json(version: ModelVersion, numbers: list[int]) -> dict[str, Any]:
    """Return the metadata of a version."""
    signature = Signature.from_json(version.signature)
    return {
        "name": model_name(version),
        "versions": [str(number) for number in numbers],
        "platform": _PLATFORMS.get(version.runtime, version.runtime),
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": DATATYPES[spec.datatype], "shape": shape_of(spec)}
