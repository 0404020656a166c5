"""Configure nodes. A concern, such as `docker`, is one deploy. A role calls several concerns.

A deploy that is called without arguments takes its settings from ``host.data``. The call can also
give settings as arguments, such as ``journald(journald_max_use="16M")``.

**Example:** ``from chaos_engine.deploys import docker``, then ``docker()``
"""

from chaos_engine.deploys.clock import clock
from chaos_engine.deploys.container_logs import container_logs
from chaos_engine.deploys.cri_dockerd import cri_dockerd
from chaos_engine.deploys.docker import docker
from chaos_engine.deploys.etcd_certificates import etcd_certificates
from chaos_engine.deploys.forget import forget
from chaos_engine.deploys.haproxy import haproxy
from chaos_engine.deploys.hosts_file import hosts_file
from chaos_engine.deploys.init import init
from chaos_engine.deploys.join import join
from chaos_engine.deploys.journald import journald
from chaos_engine.deploys.kernel import kernel
from chaos_engine.deploys.kubernetes import kubernetes
from chaos_engine.deploys.log_mount import log_mount
from chaos_engine.deploys.macvlan_network import macvlan_network
from chaos_engine.deploys.metrics import metrics
from chaos_engine.deploys.packages import packages
from chaos_engine.deploys.preflight import preflight
from chaos_engine.deploys.proxy import proxy
from chaos_engine.deploys.quiet import quiet
from chaos_engine.deploys.reboot import reboot
from chaos_engine.deploys.report import report
from chaos_engine.deploys.rsyslog import rsyslog
from chaos_engine.deploys.swap import swap
from chaos_engine.deploys.uncordon import uncordon
from chaos_engine.deploys.undo import undo
from chaos_engine.deploys.updates import updates
from chaos_engine.deploys.upgrade import upgrade
from chaos_engine.deploys.verify import verify
from chaos_engine.deploys.vrrp import vrrp
from chaos_engine.deploys.watchdog import watchdog
from chaos_engine.deploys.worker import worker

__all__ = [
    "clock",
    "container_logs",
    "cri_dockerd",
    "docker",
    "etcd_certificates",
    "forget",
    "haproxy",
    "hosts_file",
    "init",
    "join",
    "journald",
    "kernel",
    "kubernetes",
    "log_mount",
    "macvlan_network",
    "metrics",
    "packages",
    "preflight",
    "proxy",
    "quiet",
    "reboot",
    "report",
    "rsyslog",
    "swap",
    "uncordon",
    "undo",
    "updates",
    "upgrade",
    "verify",
    "vrrp",
    "watchdog",
    "worker",
]
