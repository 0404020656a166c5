"""Prepare Kubernetes work nodes that spare their SD card: a pyinfra deploy package.

``chaos_engine.deploys``     what a node shall be: deploys for single subjects and for whole roles
``chaos_engine.operations``  how a node gets there: convergent operations
``chaos_engine.facts``       what a node is now
``chaos_engine.templates``   the files and scripts that are put on nodes

Deploys call operations, and operations read facts. No import points the other way.
"""

__version__ = "0.1.0"
