"""Install Docker, hold its packages, and run Docker with the wanted daemon.json.

The module `install` has the operation. The module `daemon_json` merges this package's options into
daemon.json, and finds options with which Docker or pods would not start. The module
`daemon_json_keys` lists the keys that Docker knows. The deploy `chaos_engine.deploys.docker` calls
the operation.
"""

from chaos_engine.operations.docker.daemon_json import Options
from chaos_engine.operations.docker.install import install_docker

__all__ = ["Options", "install_docker"]
