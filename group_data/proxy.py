"""Settings of the proxy, the node that has the address of the Kubernetes API."""

# EDIT: your LAN
chaos_lan_subnet = "192.168.1.0/24"
# EDIT: the address of your router
chaos_lan_gateway = "192.168.1.1"
chaos_parent_interface = "eth0"
# Two clusters on one LAN must not have the same MAC address
# EDIT: remove this line. By default the address is derived from chaos_vip
chaos_vip_mac = "02:42:ac:8f:4c:ff"
# EDIT: another free address, for the proxy's own link
chaos_hairpin_address = "192.168.1.222"
