"""Create Docker's macvlan network, and the node's own link to that network.

The modules `network` and `hairpin` have one operation each. The module `commands` describes the
network and finds problems with it. The deploys `chaos_engine.deploys.macvlan_network` and
`chaos_engine.deploys.haproxy` call the operations.
"""

from chaos_engine.operations.macvlan_network.commands import CONTAINER, SERVICE, Macvlan
from chaos_engine.operations.macvlan_network.hairpin import add_hairpin_link
from chaos_engine.operations.macvlan_network.network import create_network

__all__ = ["CONTAINER", "SERVICE", "Macvlan", "add_hairpin_link", "create_network"]
