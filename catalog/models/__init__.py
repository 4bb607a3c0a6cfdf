"""What is on sale: models, versions, artifacts, prices."""

from __future__ import annotations

from catalog.models.models import Artifact, MLModel, ModelVersion
from catalog.models.prices import PriceChange, PriceComponent, PriceVersion

__all__ = ["Artifact", "MLModel", "ModelVersion", "PriceChange", "PriceComponent", "PriceVersion"]
