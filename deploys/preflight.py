"""Check whether a host can become a work node, before anything is changed."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import NodesSettings
from chaos_engine.operations.preflight import check_node


class PreflightSettings(NodesSettings):
    """Settings of `preflight`."""


@concern("Preflight", PreflightSettings)
def preflight(settings: PreflightSettings) -> None:
    """Refuse a host that cannot become a work node, and warn of possible problems.

    Changes nothing. Raises `SettingsError` if ``chaos_nodes`` is set but lacks the host.
    """
    known_as = settings.node_name()
    check_node(
        name="Check node",
        known_as=known_as,
        address=str(settings.nodes.get(known_as, "")),
    )
