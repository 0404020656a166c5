"""Checks before anything is changed: can this host become a work node?"""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import NodesSettings
from chaos_engine.operations.preflight import check_node


class PreflightSettings(NodesSettings):
    """Settings of `preflight`."""


@concern("Preflight", PreflightSettings)
def preflight(settings: PreflightSettings) -> None:
    """Refuse a host that cannot become a work node, and point at what is noteworthy.

    Nothing is changed. Raises `SettingsError` for a host that ``chaos_nodes``, if set, does not
    have.
    """
    known_as = settings.node_name()
    check_node(
        name="Check node",
        known_as=known_as,
        address=str(settings.nodes.get(known_as, "")),
    )
