"""Run kubeadm on a node, and tell why it failed."""

from __future__ import annotations

import re

from pyinfra.api.host import Host

from chaos_engine.facts.kubernetes import KUBELET_CONF
from chaos_engine.facts.membership import UNFINISHED
from chaos_engine.operations.engine.remote import run
from chaos_engine.operations.engine.shell import PRELUDE, quote, shell_command

SOCKET = "unix:///run/cri-dockerd.sock"
"""The socket of cri-dockerd. containerd has a socket too, so kubeadm needs to know which to use."""

RESET = f"kubeadm reset -f --cri-socket {SOCKET}"
"""The command that takes back what ``kubeadm init`` or ``kubeadm join`` did on a node."""

SECONDS = 600
"""Seconds that kubeadm may take. It pulls images, and a Raspberry Pi is slow."""

_RESET = f"timeout -k 5 {SECONDS} {RESET} >/dev/null 9>&-"

_BEGUN = (
    KUBELET_CONF,
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
)
"""The files of which at least one exists once kubeadm has changed the node."""

# kubeadm prints secrets on its standard output, such as the token after init
_ATTEMPT = f"""\
attempt() {{ # COMMAND...: run kubeadm; until it has succeeded, a note on the card says so
  mkdir -p "$STATE_DIR"
  printf '%s\\n' "$1" >{UNFINISHED}; sync {UNFINISHED} "$STATE_DIR"
  failed=0
  timeout -k 5 {SECONDS} kubeadm "$@" >/dev/null 9>&- || failed=$?
  for path in {quote(*_BEGUN)}; do
    [ "$failed" = 0 ] || [ ! -e "$path" ] || return "$failed"
  done
  rm -f -- {UNFINISHED}; sync "$STATE_DIR"
  return "$failed"
}}
"""
"""A shell function that runs kubeadm. The note `UNFINISHED` stays if kubeadm fails after it has
changed the node."""

_NO_REASON = re.compile(
    r"^(To see the stack trace of this error|W[0-9]{4} |\[preflight\]|$)|^error: error execution "
    r"phase preflight: \[preflight\] Some fatal errors occurred:$"
)


def init_script(path: str) -> str:
    """Return the script that runs ``kubeadm init``.

    + path: kubeadm's configuration file on the node
    """
    return f"""\
{PRELUDE}{_ATTEMPT}tell 'creating the cluster, at most {SECONDS} s'
attempt init --config {quote(path)}
"""


def join_script(unfinished: bool) -> str:
    """Return the script that runs ``kubeadm join`` with the configuration on its standard input.

    The configuration has secrets. So it is a file in RAM that only root can read, and the script
    removes the file when it ends.

    + unfinished: whether to take back first what an unfinished ``kubeadm join`` has done
    """
    first = f"tell 'taking back an unfinished join'\n{_RESET}\n" if unfinished else ""
    return f"""\
{PRELUDE}{_ATTEMPT}file=$RUN_DIR/kubeadm-join.yaml
trap 'rm -f -- "$file"' EXIT; trap 'exit 1' HUP INT TERM
rm -f -- "$file"; cat >"$file"
{first}tell 'joining the cluster, at most {SECONDS} s'
attempt join --config "$file"
"""


def reset_script(note: str) -> str:
    """Return the script that runs ``kubeadm reset``, and removes this package's notes.

    + note: path of the note that a run has cordoned the node
    """
    return f"""\
{PRELUDE}tell 'removing Kubernetes state from the node, at most {SECONDS} s'
{_RESET}
rm -f -- {quote(note, UNFINISHED)}
[ ! -d "$STATE_DIR" ] || sync "$STATE_DIR"
"""


def run_kubeadm(host: Host, script: str, stdin: str = "") -> str:
    """Run one of this module's scripts on a host; return why it failed, "" if it succeeded.

    + stdin: the script's standard input. pyinfra never prints it
    """
    done, output = run(host, shell_command(script, stdin=stdin))
    return "" if done else reason(output.stderr_lines)


def reason(lines: list[str]) -> str:
    """Return why kubeadm failed. This is a pure function.

    + lines: kubeadm's standard error
    """
    found = [line.strip() for line in lines if not _NO_REASON.search(line.strip())]
    errors = [line for line in found if line.startswith(("[ERROR", "error"))]
    return "; ".join(dict.fromkeys(errors or found[-3:])) or "kubeadm failed without a message"


def advice(problem: str) -> str:
    """Return what to do about a failure of kubeadm. This is a pure function.

    + problem: why kubeadm failed, from `reason`
    """
    if "already exists in the cluster" in problem:
        return "; if this node has just stopped, wait a minute, and run again"
    if re.search("FileAvailable|DirAvailable|Port-", problem):
        return f"; kubeadm has been used on this node before: run {RESET} on it, and run again"
    return "; fix this and run again"
