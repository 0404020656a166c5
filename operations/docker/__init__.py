"""Install Docker, hold its packages, and have it run with the wanted daemon.json.

`install` has the operation. `daemon_json` merges the file and finds options with which Docker or
pods would not start, `daemon_json_keys` lists the keys that Docker knows. The deploy
`chaos_engine.deploys.docker` calls the operation.
"""

from chaos_engine.operations.docker.daemon_json import Options
from chaos_engine.operations.docker.install import install_docker

__all__ = ["Options", "install_docker"]
