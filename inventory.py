"""The Chaos Engine's hosts. Names must resolve on your computer: by your router's DNS, /etc/hosts
or ~/.ssh/config. Or give a host its address: ``("pi1", {"ssh_hostname": "192.168.1.50"})``."""

from pyinfra.api.exceptions import PyinfraError

# EDIT: the names of your nodes
workers = [f"pi{number}" for number in range(1, 11)]

# EDIT: the node that is the proxy; it is a worker too
proxy = ["pi5"]

if not workers:  # pyinfra would do nothing, and call that a success
    raise PyinfraError("inventory.py: workers is empty; name your nodes there")
