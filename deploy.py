"""The entry: ``pyinfra inventory.py deploy.py``, with ``--dry`` to see what it would do."""

from pyinfra import host

from chaos_engine.deploys import reboot, worker

if "workers" in host.groups:
    worker()
    reboot()
