"""The doors to predictions, one for each protocol that callers speak.

A face reads a request into a Call and writes the answer in its protocol's form; what happens in
between is the same for all of them.
"""

from __future__ import annotations

from inference.faces.http import DirectFace, Face
from inference.faces.open_inference import OpenInference
from inference.faces.openai_embeddings import Embeddings
from inference.faces.openai_text import Chat, Completions
from inference.faces.predictions import ChosenPrediction, Predictions
from inference.faces.serving import Serving

# Asked in this order: what is called most comes first.
FACES: tuple[Face | DirectFace, ...] = (
    *(Predictions(), OpenInference(), Serving()),
    *(Chat(), Completions(), Embeddings(), ChosenPrediction()),
)


def face_for(method: str, path: str) -> Face | DirectFace | None:
    """Return the face that serves a request; None: it is not for this door."""
    for face in FACES:
        if face.matches(method, path):
            return face
    return None
