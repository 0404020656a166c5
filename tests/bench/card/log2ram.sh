# Has log2ram do what is due once a day. Its package puts /var/log into RAM at boot.
set -eu
case $1 in
  empty) # as logrotate does
    find /var/log /var/hdd.log -xdev -type f ! -name '*.journal*' -exec truncate -s 0 {} +
    ;;
  sync) systemctl reload log2ram.service ;;
esac
