"""List as many work nodes as ``BENCH_NODES`` says, for the part `many`.

Only the first one is real, and has its own address. What a node gets differs from what the others
get by nothing but names: none is a controller, and each log volume has the same servers in the same
order.
"""

import os

_workers = {"pi1": "192.168.1.50"}
for _number in range(2, int(os.environ["BENCH_NODES"]) + 1):
    _workers[f"pi{_number}"] = f"10.77.{_number // 200}.{_number % 200 + 1}"
_controllers = {f"control{number}": f"10.78.0.{number}" for number in (1, 2, 3)}
_servers = ["etcd1", "etcd2", "etcd3"]
_data = {"chaos_nodes": _workers | _controllers, "chaos_controllers": list(_controllers)}


def _volume(name: str) -> dict[str, object]:
    """Return data of a node with its own volume only, as a site without this setting has none."""
    return {"chaos_log_volumes": {name: {"volume": name, "servers": _servers}}}


workers = [(name, _data | _volume(name)) for name in _workers]
