"""Prepare Kubernetes work nodes that spare their SD card: a pyinfra deploy package.

``chaos_engine.deploys``     deploys of single concerns and of whole roles: what a node shall be
``chaos_engine.operations``  operations that change a node only where it is not as wanted
``chaos_engine.facts``       facts: what a node is now
``chaos_engine.templates``   the files and scripts that are put on nodes

Deploys call operations, and operations read facts. No module imports in the other direction.
"""

__version__ = "0.1.0"
