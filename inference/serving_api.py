"""The status and the metadata of a model as TensorFlow Serving gives them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.models import ModelVersion
from inference.api import callable_version
from inference.protocol_serializers import ServingMetadataSerializer, ServingStatusSerializer
from inference.runtime.signature import Signature, TensorSpec

_DATATYPES = {
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "uint8": "DT_UINT8",
}


class VersionStatus(APIView):
    """The status of one version."""

    scope = "read"

    @extend_schema(operation_id="serving_status", responses=ServingStatusSerializer)
    def get(self, request: Request, owner: str, name: str, number: int) -> Response:
        """Return AVAILABLE for what can be called; everything else does not exist."""
        version = callable_version(request, owner, name, number)
        status = {
            "version": str(version.number),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return Response({"model_version_status": [status]})


class Metadata(APIView):
    """Inputs and outputs of a version; without a number, of the current one."""

    scope = "read"

    @extend_schema(operation_id="serving_metadata", responses=ServingMetadataSerializer)
    def get(self, request: Request, owner: str, name: str, number: int | None = None) -> Response:
        """Return the signature."""
        return Response(metadata(callable_version(request, owner, name, number)))


@extend_schema_view(get=extend_schema(operation_id="serving_version_metadata"))
class VersionMetadata(Metadata):
    """What one version takes and gives."""


def metadata(version: ModelVersion) -> dict[str, Any]:
    """Return the signature of a version in TensorFlow Serving's words."""
    signature = Signature.from_json(version.signature)
    serving_default = {
        "inputs": {spec.name: _tensor(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor(spec) for spec in signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {
            "name": version.model.path,
            "signature_name": "",
            "version": str(version.number),
        },
        "metadata": {"signature_def": {"signature_def": {"serving_default": serving_default}}},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = (-1, *spec.shape)
    return {
        "dtype": _DATATYPES[spec.datatype],
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in sizes],
            "unknown_rank": False,
        },
        "name": spec.name,
    }
