# Runs inside a layer over the base image that becomes the storage nodes'.
apt-get -qq update
# shellcheck disable=SC2046 # these are words
apt-get -qq install $(sed -e '/^#/d' /run/build/storage/packages.txt)
cp -r /run/build/storage/files/. /
# Gluster's daemon runs this slow program twenty times at every start, for geo-replication.
rm /usr/lib/*/glusterfs/gsyncd
systemctl enable glusterd.service etcd.service
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
