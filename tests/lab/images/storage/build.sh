# Runs inside a layer over the base image that becomes the storage nodes'.
apt-get -qq update

# Debian 13 has etcd 3.5.16, and kubeadm 1.36 wants 3.5.24 of an external one: these two packages are
# forky's. They need nothing that the suite has not; if they did, their installation would fail.
forky() {
    # A mirror may be weeks behind
    apt-get -qq -oDir::Etc::SourceList=/run/forky.list -oDir::State::Lists=/run/forky \
        -oAcquire::Check-Valid-Until=false "$@"
}
sed 's/ [a-z]* main$/ forky main/' /run/build.list >/run/forky.list
mkdir -p /run/forky/partial
cd /run
forky update
forky -oAPT::Sandbox::User=root download etcd-server etcd-client
# The package's own file of that name has a letter that bookworm's systemd does not know
mkdir -p /etc/sysusers.d
echo 'u etcd - - /var/lib/etcd' >/etc/sysusers.d/etcd-server.conf

# shellcheck disable=SC2046 # these are words
apt-get -qq install /run/etcd-*.deb $(sed -e '/^#/d' /run/build/storage/packages.txt)
cp -r /run/build/storage/files/. /
# Gluster's daemon runs this slow program twenty times at every start, for geo-replication.
rm /usr/lib/*/glusterfs/gsyncd
systemctl enable glusterd.service etcd.service
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
