"""Find the settings models of the package."""

from __future__ import annotations

from chaos_engine.deploys import settings
from chaos_engine.deploys.settings import Settings


def all_models() -> list[type[Settings]]:
    """Return all settings models of the package, without duplicates."""
    models = dict.fromkeys(settings._below(Settings))
    return [model for model in models if model.__module__.startswith("chaos_engine.")]
