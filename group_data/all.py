"""The Chaos Engine's site: what all nodes share. README.md lists every setting."""

ssh_user = "ubuntu"
_sudo = True

chaos_nodes = {f"pi{number}": f"192.168.1.{49 + number}" for number in range(1, 11)}
chaos_controllers = ["pi1", "pi4", "pi7"]
chaos_storage_servers = {f"etcd{number}": f"192.168.1.{39 + number}" for number in range(1, 4)}
chaos_log_server = "192.168.1.42"
chaos_vip = "192.168.1.60"
