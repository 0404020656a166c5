"""Names of the operations of ``deploy.py``, in order, without the names of their deploys."""

HOSTS = "Name the cluster's machines"
JOURNAL = "Keep the journal in RAM"
LOGS = "Send all logs to the log server"
GLUSTER = "Install the Gluster client"
SHARE = "Mount the log share"
DOCKER = "Run Docker"
PACKAGES = "Remove packages"
SWAP = "Turn swap off"
CLOCK = "Keep kubelet back until the clock is right"
CRI_DOCKERD = "Run cri-dockerd"
MODULES = "Prepare the kernel for Kubernetes"
QUIET = "Keep kubelet quiet until the node joins"
KUBERNETES = "Install Kubernetes"
KUBEADM = "Configure kubeadm, crictl and kubelet's logs"
CERTIFICATES = "Install the etcd certificates"
KERNEL = "Edit the kernel's command line"
NETWORK = "Create the proxy's network"
HAIRPIN = "Reach the proxy from its own node"
IMAGE = "Pull HAProxy's image"
KEEPALIVED = "Install keepalived"
VRRP = "Choose the owner of the API's address"
HAPROXY = "Run HAProxy"
COPY = "Copy HAProxy's configuration to the log share"
NO_VRRP = "Remove VRRP"
REBOOT = "Reboot node"

WORKER = (
    HOSTS,
    JOURNAL,
    LOGS,
    GLUSTER,
    SHARE,
    DOCKER,
    PACKAGES,
    SWAP,
    CLOCK,
    CRI_DOCKERD,
    MODULES,
    QUIET,
    KUBERNETES,
    KUBEADM,
    CERTIFICATES,
    KERNEL,
    REBOOT,
)
"""The operations that change a fresh worker."""

PROXY = (NETWORK, HAIRPIN, IMAGE, HAPROXY, COPY)
"""The operations that change a fresh proxy besides."""
