"""Install the distribution's security updates on one node after the other."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.reboot import RebootingSettings
from chaos_engine.operations.rolling.turns import uncordon_node
from chaos_engine.operations.updates import install_security_updates


class UpdatesSettings(RebootingSettings):
    """Settings of `updates`."""


@concern("Security updates", UpdatesSettings)
def updates(settings: UpdatesSettings) -> None:
    """Install the distribution's security updates, and reboot the node if they need it.

    Call this deploy by itself, as often as you want updates. No other deploy calls it. Packages on
    hold, such as Docker's and Kubernetes', are not updated. The preview lists the packages and
    their versions.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.updates --dry``
    """
    rolling = settings.rolling()
    uncordon_node(name="Uncordon node", rolling=rolling)
    install_security_updates(
        name="Install security updates",
        rolling=rolling,
        force=settings.reboot_force,
        seconds=settings.reboot_timeout,
    )
    uncordon_node(name="Uncordon fixed node", rolling=rolling, last=True)
