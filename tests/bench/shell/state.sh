# Prints all that the deploy looks at on a work node, with as few processes as possible. It needs these
# variables: paths, files, packages, units, proxy (yes or nothing), and values for
# the proxy.
state() {
  uname -m
  stat -c '%n %F %a %U:%G' -- $paths 2>&1
  sha256sum -- $files 2>&1
  echo /etc/rsyslog.d/*.conf /etc/systemd/journald.conf.d/*.conf /etc/apt/sources.list.d/*
  dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' $packages 2>/dev/null
  apt-mark showhold
  systemctl show --property=Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload -- $units
  cat /run/chaos-engine/*.service /proc/cmdline /proc/swaps /sys/fs/cgroup/cgroup.controllers \
    /proc/sys/net/ipv4/ip_forward /proc/sys/net/bridge/bridge-nf-call-iptables \
    /proc/sys/net/bridge/bridge-nf-call-ip6tables 2>&1
  [ -d /sys/module/br_netfilter ] && echo br_netfilter
  awk '$5 == "/var/log" { sub(".*:", "", $10); print $6, $9, $10 }' /proc/self/mountinfo
  timeout 10 find /var/log -maxdepth 0 -empty && echo /var/log answers
  [ "$(df -m --output=avail / | tail -n 1)" -gt 200 ] && echo there is room
  timeout 20 docker info --format '{{.ServerVersion}} {{.CgroupDriver}} {{.Driver}} {{.DockerRootDir}}'
  [ -e /etc/kubernetes/kubelet.conf ] && echo it has joined
  [ -z "$proxy" ] || {
    docker network inspect --format '{{.Driver}} {{json .IPAM.Config}} {{json .Options}}' lb-network
    docker container inspect --format \
      '{{.State.Running}} {{.Config.Image}} {{.Image}} {{json .HostConfig.Mounts}}' lb-haproxy
    docker image inspect --format '{{.Id}}' "$image"
    ip -o -4 address show dev lb-hairpin scope global | awk '{ print $2, $4 }'
    ip -4 route show dev lb-hairpin
    cat /proc/sys/net/ipv4/conf/eth0/arp_ignore /proc/sys/net/ipv4/conf/lb-hairpin/arp_ignore \
      /run/chaos-engine/haproxy/loaded
  } 2>&1
}
