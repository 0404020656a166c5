"""Settings of all nodes of a cluster. docs/settings.md lists every setting.

The values are those of the cluster Chaos Engine. The comment ``EDIT`` marks each value that fits no
other cluster. Change the marked values in this file, in proxy.py and in inventory.py. Delete or
review the values in workers.py.
"""

ssh_user = "ubuntu"
_sudo = True

# EDIT: the address of each node
chaos_nodes = {f"pi{number}": f"192.168.1.{49 + number}" for number in range(1, 11)}
# EDIT: the nodes that are Kubernetes controllers
chaos_controllers = ["pi1", "pi4", "pi7"]
# EDIT: the address of each Gluster server
chaos_storage_servers = {f"etcd{number}": f"192.168.1.{39 + number}" for number in range(1, 4)}
# EDIT: the address of your syslog server
chaos_log_server = "192.168.1.42"
# EDIT: a free address for the Kubernetes API
chaos_vip = "192.168.1.60"
