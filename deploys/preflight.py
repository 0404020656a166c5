"""Check, before anything is changed, whether a host can become a work node."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import NodesSettings
from chaos_engine.operations.preflight import check_node


class PreflightSettings(NodesSettings):
    """Settings of `preflight`."""


@concern("Preflight", PreflightSettings)
def preflight(settings: PreflightSettings) -> None:
    """Refuse a host that cannot become a work node, and warn of what may cause problems.

    Changes nothing. Raises `SettingsError` for a host that is missing in ``chaos_nodes``, if that
    is set.
    """
    known_as = settings.node_name()
    check_node(
        name="Check node",
        known_as=known_as,
        address=str(settings.nodes.get(known_as, "")),
    )
