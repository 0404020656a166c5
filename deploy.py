"""The entry: ``pyinfra inventory.py deploy.py``, with ``--dry`` to see what it would do."""

from pyinfra import host

from chaos_engine.deploys import proxy, reboot, worker
from chaos_engine.deploys.concern import check
from chaos_engine.deploys.proxy_group import check_groups

check_groups()
is_proxy = "proxy" in host.groups
# All roles are checked before the first change: a node that cannot be the proxy stays as it is
check(*([worker, proxy] if is_proxy else [worker]))
worker()
if is_proxy:
    proxy()
reboot()
