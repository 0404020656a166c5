"""List fifty work nodes for the part `scale`, with the site's group data but for addresses."""

_nodes = {f"pi{number}": f"192.168.1.{49 + number}" for number in range(1, 51)}

# The site's own VIP is the address of the eleventh node here
_data = {"chaos_nodes": _nodes, "chaos_vip": "192.168.1.200"}

workers = [(name, _data) for name in _nodes]
