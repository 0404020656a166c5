"""The Chaos Engine's work nodes."""

# Both are past their support: the newest pair is the package's default
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

# As it was; the package's default is gentler to a card: 10m, three files
chaos_docker_log_max_size = "100m"

# As it was, on all nodes; the package's default gives the key to the controllers only
chaos_etcd_certificates_hosts = "all"
