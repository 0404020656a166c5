"""Import a single concern from the built package, in somebody's own pyinfra project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.virtual_cluster import CHECKOUT, Cluster

DEPLOY = """\
from chaos_engine.deploys import docker
from deploys.greeting import GREETING
docker()
print(GREETING)
"""


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    """Make a project with the wheel in its own environment, and with its own folder `deploys/`."""
    wheels, project = tmp_path / "wheels", tmp_path / "project"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, CHECKOUT],
        check=True,
    )
    site = project / "site-packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site,
         *wheels.glob("*.whl")],
        check=True,
    )  # fmt: skip
    (project / "deploys").mkdir()
    (project / "deploys" / "__init__.py").touch()
    (project / "deploys" / "greeting.py").write_text('GREETING = "from a folder of my own"\n')
    (project / "deploy.py").write_text(DEPLOY)
    return project


def test_single_concern_of_the_wheel_runs_in_a_project_with_deploys_of_its_own(
    deployed: Cluster, consumer: Path
) -> None:
    node = deployed.workers[0]
    (consumer / "inventory.py").write_text(
        f'nodes = [("{node}", {{"ssh_user": "ubuntu", "_sudo": True}})]\n'
    )
    project = ("env", "-C", str(consumer), f"PYTHONPATH={consumer / 'site-packages'}")
    where = deployed.run(
        *project,
        "python",
        "-c",
        "import chaos_engine.deploys; print(chaos_engine.deploys.__file__)",
    ).out
    assert where.startswith(str(consumer)), where

    deployed.exec(node, "echo '{}' > /etc/docker/daemon.json")
    deploy = (*project, "pyinfra", "--json", "inventory.py", "deploy.py", "-y")
    run = deployed.run(*deploy)
    assert "from a folder of my own" in run.text
    results = json.loads(run.out[run.out.index("{") :])["results"]
    assert [o["name"] for o in results["operations"] if o["success"]] == ["Docker | Run Docker"]
    config = json.loads(deployed.exec(node, "cat /etc/docker/daemon.json"))
    assert config["log-opts"]["max-size"] == "256k"
