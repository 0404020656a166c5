#!/bin/sh
# Stand-in for sudo: refuses in the words of the real ones (see facts/connection.py) and otherwise
# runs the command as who it is. $STAND_IN_SUDO: what is to be imitated; $STAND_IN_PASSWORD: the
# right password, none if sudo does not ask.
kind=$STAND_IN_SUDO option_A= command_n= told=
case $kind in
  sudo) wants='sudo: a password is required' ;;
  sudo-german) wants='sudo: Ein Passwort ist notwendig' ;;
  sudo-rs-0.2.5) wants='sudo-rs: interactive authentication is required' ;;
  sudo-rs-0.2.15) wants='sudo: interactive authentication is required' ;;
esac
[ "$kind" != sudo-german ] || [ "${LC_ALL:-}" != C ] || wants='sudo: a password is required'
while :; do
  case $1 in
    -A) option_A=yes; shift ;;
    -n) command_n=yes; shift ;;
    -u) shift 2 ;;
    -*) shift ;;
    *) break ;;
  esac
done
if [ -n "$option_A" ] && [ "$kind" = sudo-rs-0.2.5 ]; then
  printf '%s\n' 'invalid option provided' 'usage: sudo -h | -K | -k | -V' >&2; exit 1
fi
if [ -z "${STAND_IN_PASSWORD:-}" ]; then exec "$@"; fi
if [ -n "$command_n" ]; then echo "$wants" >&2; exit 1; fi
case $SUDO_ASKPASS in
  /*) told=$("$SUDO_ASKPASS") ;;
  *)
    case $kind in
      sudo-rs*) echo "sudo: Askpass program '$SUDO_ASKPASS' is not an absolute path" >&2 ;;
      *)
        printf '%s\n' "sudo: unable to run $SUDO_ASKPASS: No such file or directory" \
          'sudo: no password was provided' "$wants" >&2
        ;;
    esac
    exit 1
    ;;
esac
if [ "$told" != "$STAND_IN_PASSWORD" ]; then
  case $kind in
    sudo-rs*) echo 'sudo: maximum 3 incorrect authentication attempts' >&2 ;;
    *) printf '%s\n' 'Sorry, try again.' 'sudo: 3 incorrect password attempts' >&2 ;;
  esac
  exit 1
fi
unset SUDO_ASKPASS PYINFRA_SUDO_PASSWORD
exec "$@"
