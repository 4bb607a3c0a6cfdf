"""What the caller of a prediction is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from billing.holds import Admission
from billing.money import decimal_text
from inference.runtime import tensors
from inference.runtime.sessions import Arrays
from inference.runtime.signature import Signature


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished prediction: its outputs, how long it took, what it cost."""

    prediction_id: UUID
    hold_id: UUID
    version_path: str
    signature: Signature
    arrays: Arrays
    is_batch: bool
    rows: int
    batch_rows: int
    queue_us: int
    run_us: int
    cost_nanos: int
    currency: str
    price_version_id: int
    # What is left of the caps; None for an answer that is stored.
    admission: Admission | None = None

    @property
    def cost_text(self) -> str:
        """The amount of the header `Mercato-Cost`."""
        return decimal_text(self.cost_nanos)

    def as_json(self) -> dict[str, Any]:
        """Return the body of POST /v1/predictions; arrays stay arrays (see `dumps`)."""
        return {
            "id": str(self.prediction_id),
            "object": "prediction",
            "model": self.version_path,
            "status": "succeeded",
            "output": tensors.encode(self.arrays, self.signature, is_batch=self.is_batch),
            "metrics": {
                "rows": self.rows,
                "batch_rows": self.batch_rows,
                "queue_ms": self.queue_us / 1000,
                "run_ms": self.run_us / 1000,
            },
            "cost": {
                "amount": self.cost_text,
                "currency": self.currency,
                "units": {"row": self.rows},
                "price_version": self.price_version_id,
                "hold": str(self.hold_id),
                "receipt": f"/v1/receipts/{self.hold_id}",
            },
        }

    def as_instances(self) -> dict[str, Any]:
        """Return the body of `:predict`, in TensorFlow Serving's form."""
        return {"predictions": tensors.encode_instances(self.arrays, self.signature)}


def dumps(body: Any) -> bytes:
    """Write JSON; arrays are written as nested lists."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def plain(body: Any) -> Any:
    """Return the same with lists for arrays, fit for a JSON column."""
    return orjson.loads(dumps(body))
