"""Deploy the role `worker` to each host, and the role `proxy` to those in the group ``proxy``.

Run ``pyinfra inventory.py deploy.py``. With ``--dry``, pyinfra only prints what a run would change.
"""

from pyinfra import host

from chaos_engine.deploys import proxy, reboot, worker
from chaos_engine.deploys.concern import check
from chaos_engine.deploys.join import join_if_wanted
from chaos_engine.deploys.proxy_group import check_groups

check_groups()
is_proxy = "proxy" in host.groups
# All roles are checked before the first change. So a node that cannot be the proxy is not changed
check(*([worker, proxy] if is_proxy else [worker]))
worker()
if is_proxy:
    proxy()
reboot()
if host.data.get("chaos_join"):
    join_if_wanted()
