"""The recipes: how each model is built, trained, checked and exported. No Django, no Celery."""

from __future__ import annotations

from training.recipes.catalogue import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe"]
