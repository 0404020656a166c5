"""A kubeconfig for tests."""

from __future__ import annotations


def admin_conf(server: str) -> bytes:
    """A kubeconfig as kubeadm lays it out, for the API at SERVER."""
    return (
        f"clusters: [{{name: kubernetes, cluster: {{server: https://{server}:6443}}}}]\n"
        "contexts: [{name: admin, context: {cluster: kubernetes, user: admin}}]\n"
        "current-context: admin\n"
    ).encode()
