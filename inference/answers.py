"""What the caller of a prediction is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from billing.holds import Admission
from billing.money import decimal_text
from inference.limits.standing import Standing
from inference.metrics.counting import CallTimes
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
    # For how long it waited until the model was loaded; part of no other time, and free.
    start_us: int = 0
    # What is left of the caps; None for an answer that is stored.
    admission: Admission | None = None
    # What is left of the caller's limits; None: it has none.
    standing: Standing | None = None
    # Of the texts of a model that reads text.
    input_tokens: int = 0
    # Where the time went until the reply was here; None for an answer that is stored.
    times: CallTimes | None = None

    @property
    def model_path(self) -> str:
        """The model without its version: `owner/name`."""
        return self.version_path.partition(":")[0]

    @property
    def cost_text(self) -> str:
        """The amount of the header `Mercato-Cost`."""
        return decimal_text(self.cost_nanos)

    def units(self) -> dict[str, int]:
        """Return what was used."""
        tokens = {"input_token": self.input_tokens} if self.input_tokens else {}
        return {"row": self.rows} | tokens

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
                "start_ms": self.start_us / 1000,
            },
            "cost": {
                "amount": self.cost_text,
                "currency": self.currency,
                "units": self.units(),
                "price_version": self.price_version_id,
                "hold": str(self.hold_id),
                "receipt": f"/v1/receipts/{self.hold_id}",
            },
        }

    def as_bytes(self) -> bytes:
        """Write the body of POST /v1/predictions."""
        return dumps(self.as_json())


def dumps(body: Any) -> bytes:
    """Write JSON; arrays are written as nested lists."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def plain(body: Any) -> Any:
    """Return the same with lists for arrays, fit for a JSON column."""
    return orjson.loads(dumps(body))
