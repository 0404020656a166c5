"""Prepare Kubernetes work nodes that spare their SD card: a pyinfra deploy package.

``chaos_engine.deploys``     what a node shall be: one deploy for each concern, and the roles
``chaos_engine.operations``  how a node gets there: convergent operations
``chaos_engine.facts``       what a node is now
``chaos_engine.templates``   the files that are put on it

Deploys call operations, and operations read facts. No import points the other way.
"""

__version__ = "0.1.0"
