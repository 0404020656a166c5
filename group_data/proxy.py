"""Settings of the proxy, the node that has the address of the Kubernetes API."""

# EDIT: your LAN
chaos_lan_subnet = "192.168.1.0/24"
# EDIT: the address of your router
chaos_lan_gateway = "192.168.1.1"
chaos_parent_interface = "eth0"
chaos_vip_mac = "02:42:ac:8f:4c:ff"
# EDIT: another free address, for the proxy's own link
chaos_hairpin_address = "192.168.1.222"
