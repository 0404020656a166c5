# Runs inside a layer over the base image that becomes NFS servers' (tests/lab/uml.py).
apt-get -qq update
apt-get -qq install nfs-kernel-server
# NFSv4 alone, which needs no port mapper. After a start the kernel lets nobody open a file for 90 s,
# unless they had it open before; here for as short as it can.
cat >/etc/nfs.conf <<CONF
[nfsd]
vers3=n
grace-time=10
lease-time=10
CONF
systemctl enable nfs-server.service
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
