"""The Chaos Engine's work nodes."""

# Both versions are out of support. Without these lines you get the package's newest pair
chaos_kubernetes_version = "1.28.15"
chaos_cri_dockerd_version = "0.3.17"

# The package's default list, and apparmor
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

# The value from before this package. The package's default, 10m, writes less to a card
chaos_docker_log_max_size = "100m"

# The value from before this package. By default only the controllers get the key
chaos_etcd_certificates_hosts = "all"
