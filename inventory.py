"""The nodes of the cluster. Your computer has to find each node by its name: with your router's
DNS, /etc/hosts or ~/.ssh/config. If it cannot, write a node's address next to the name:
``("pi1", {"ssh_hostname": "192.168.1.50"})``."""

from pyinfra.api.exceptions import PyinfraError

# EDIT: the names of your nodes
workers = [f"pi{number}" for number in range(1, 11)]

# EDIT: the node that is the proxy; it is a worker too. docs/two-proxies.md says how to have two
proxy = ["pi5"]

if not workers:  # pyinfra would do nothing, and report success
    raise PyinfraError("inventory.py: workers is empty; name your nodes there")
