# Runs inside a layer over the base image that becomes the workers'.

words() { sed -e '/^#/d' "$1"; }

apt-get -qq update
# shellcheck disable=SC2046 # these are words
apt-get -qq install $(words /run/build/worker/packages.txt)

# The rest of the archive is fetched, not installed: that is the deploy's work.
known() { apt-cache show "$1" 2>/dev/null | sed -n 's/^Package: //p' | head -n 1; }
words /run/build/worker/archive.txt | while read -r line; do
    packages=$(for package in $line; do known "$package"; done)
    # shellcheck disable=SC2086 # these are words
    test -z "$packages" || apt-get -qq install --download-only $packages </dev/null
done

cp -r /run/build/worker/files/. /
# For the stand-in for kubeadm: the deploy removes cloud-init, and with it what brought PyYAML.
cp -r /usr/lib/python3/dist-packages/yaml /usr/lib/lab/yaml
chmod 440 /etc/sudoers.d/90-cloud-init-users
chmod 600 /etc/netplan/50-cloud-init.yaml

# When runc is installed, this stands before it.
dpkg-divert --quiet --add --no-rename --divert /usr/sbin/runc.distrib /usr/sbin/runc
ln -s /usr/lib/lab/runc /usr/sbin/runc

# As after the first boot of a stock image: cloud-init has done its work.
touch /etc/cloud/cloud-init.disabled
# Ubuntu's journal is persistent, by this folder.
install -d -g systemd-journal -m 2755 /var/log/journal
systemctl enable lab-firmware.service lab-swap.service

# The kernel is this computer's, but modprobe answers as on a Pi, which has these.
modules=/lib/modules/$(uname -r)
mkdir -p "$modules"
for module in kernel/net/bridge/br_netfilter kernel/fs/overlayfs/overlay \
    kernel/drivers/net/macvlan kernel/fs/fuse/fuse kernel/drivers/block/loop \
    kernel/net/netfilter/nf_conntrack kernel/net/8021q/8021q kernel/drivers/net/vxlan/vxlan; do
    echo "$module.ko"
done >"$modules/modules.builtin"
: >"$modules/modules.order"
depmod "$(uname -r)"

rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
