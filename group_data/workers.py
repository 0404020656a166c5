"""The Chaos Engine's work nodes."""

# Both are past their support. Without these lines you get the package's default, the newest pair
chaos_kubernetes_version = "1.28.15"
chaos_cri_dockerd_version = "0.3.17"

# apparmor too: the package's default keeps it
chaos_packages_absent = [
    "apparmor",
    "avahi-daemon",
    "cloud-init",
    "lvm2",
    "modemmanager",
    "plymouth",
    "snapd",
    "unattended-upgrades",
]

# As before; the package's default writes less to a card: 10m, three files
chaos_docker_log_max_size = "100m"

# As before, on all nodes; the package's default gives the key to the controllers only
chaos_etcd_certificates_hosts = "all"
