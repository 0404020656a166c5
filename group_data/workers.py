"""Settings of the workers, the nodes that run pods.

The values are those of the cluster Chaos Engine. A new cluster should delete or review them:
without a line, the package's default counts.
"""

# Both versions are out of support. Without these two lines, this package installs newer ones
chaos_kubernetes_version = "1.28.15"
chaos_cri_dockerd_version = "0.3.17"

# This package's default list, plus apparmor
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

# The Chaos Engine had this value before it used this package. By default, only the controllers get
# etcd's client certificate and key
chaos_etcd_certificates_hosts = "all"
