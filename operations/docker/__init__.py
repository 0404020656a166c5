"""Install Docker, hold its packages, and have it run with the wanted daemon.json.

`install` is the operation, `daemon_json` merges the file and finds what cannot work,
`daemon_json_keys` lists the keys that Docker knows. The deploy `chaos_engine.deploys.docker` calls
it.
"""

from chaos_engine.operations.docker.daemon_json import Options
from chaos_engine.operations.docker.install import install_docker

__all__ = ["Options", "install_docker"]
