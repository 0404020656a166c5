# Does the first deploy of a work node, step by step as the deploy does it. It needs these variables:
# version, packages_absent, proxy (yes or nothing), image, network (the command that
# creates the proxy's network), together (yes: one call of apt installs all), and the function
# payload, which prints a gzipped tar file of all files that the node shall have.
set -eu
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
get() {
  apt-get -y -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold install --no-install-recommends --allow-downgrades "$@" \
    </dev/null >/dev/null
}
refresh() { apt-get -q update </dev/null >/dev/null; }
put() { # PATTERN...: unpack the files that match
  tar -C / -xzpf "$work/payload" --no-same-owner --wildcards "$@"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
payload >"$work/payload"

# names and logs
put etc/hosts
kubernetes="kubelet=$version-* kubeadm=$version-* kubectl=$version-*"
put etc/systemd/journald.conf.d 'etc/systemd/system/systemd-journald.service.d' \
  'etc/systemd/system/rsyslog.service.d'
rm -f /etc/rsyslog.d/*.conf
put etc/rsyslog.d
rsyslogd -N1 2>/dev/null
systemctl daemon-reload
systemctl restart systemd-journald rsyslog
systemctl enable --quiet rsyslog
if [ -n "$together" ]; then
  put etc/apt/keyrings etc/apt/sources.list.d etc/systemd/system/kubelet.service.d \
    etc/docker 'etc/systemd/system/docker.service.d'
  refresh
  get docker.io docker-cli ca-certificates glusterfs-client $kubernetes
else
  refresh
  get glusterfs-client
fi
put usr/local/sbin 'etc/systemd/system/var-log*'
systemctl daemon-reload
systemctl enable --quiet --now var-log.service var-log-check.timer

# Docker
put etc/docker 'etc/systemd/system/docker.service.d'
[ -n "$together" ] || { refresh; get docker.io docker-cli ca-certificates; }
apt-mark hold docker.io docker-cli >/dev/null

# what is not needed
put etc/apt/preferences.d
there=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages_absent 2>/dev/null |
  awk '$2 == "installed" { print $1 }')
apt-get -y -q -o APT::Get::AutomaticRemove=false remove $there </dev/null >/dev/null
put etc/fstab
swapoff --all || true
ln -sfn /dev/null /etc/systemd/system/swap.target

# the container runtime
put usr/local/bin 'etc/systemd/system/cri-docker*'
systemctl daemon-reload
systemctl enable --quiet --now cri-docker.socket cri-docker.service

# Kubernetes
put etc/modules-load.d etc/sysctl.d etc/tmpfiles.d etc/systemd/system/kubelet.service.d \
  etc/systemd/system/chaos-engine-clock.service
systemctl enable --quiet chaos-engine-clock.service
modprobe --all overlay br_netfilter
sysctl -q --load=/etc/sysctl.d/99-kubernetes.conf
[ -n "$together" ] || {
  put etc/apt/keyrings etc/apt/sources.list.d
  refresh
  get $kubernetes
}
apt-mark hold kubelet kubeadm kubectl >/dev/null
systemctl enable --quiet kubelet
put etc/crictl.yaml etc/kubernetes boot

# the proxy
[ -z "$proxy" ] || {
  $network >/dev/null
  docker pull -q "$image" >/dev/null || docker pull -q "$image" >/dev/null # DNS may time out once
  put usr/sbin 'etc/systemd/system/docker_haproxy*' var/lib/chaos-engine
  systemctl daemon-reload
  systemctl enable --quiet --now docker_haproxy.service
  /usr/sbin/haproxy_start.sh check
}
sync
