# Runs inside the base image, once its packages are installed.

useradd --create-home --uid 1000 --shell /bin/bash --groups sudo,adm ubuntu
echo ubuntu:ubuntu | chpasswd

# Every node gets its own.
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id

# eth0 is configured from outside; without udev networkd would wait for it for ever.
for unit in systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    rpcbind.service rpcbind.socket nfs-client.target \
    console-getty.service getty@tty1.service getty.target; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done

# apt knows the lab's archive only, under the public one's name; its key comes with the node.
rm -f /etc/apt/sources.list /etc/apt/apt.conf.d/*mmdebstrap
. /etc/os-release
cat >/etc/apt/sources.list.d/debian.sources <<SOURCES
Types: deb
URIs: http://deb.debian.org/debian
Suites: $VERSION_CODENAME
Components: main
Signed-By: /usr/share/keyrings/lab-archive-keyring.gpg
SOURCES

# The build alone did not wait for the disk; dpkg of a node does, as that of Raspberry Pi OS.
rm -f /etc/dpkg/dpkg.cfg.d/*mmdebstrap

rm -rf /var/lib/apt/lists/*
