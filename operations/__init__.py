"""Convergent operations: each reads the node, decides, and changes it in one transaction."""
