#!/bin/sh
# Installs funasr-agent from this folder (on the boot partition) into the system that runs it. Needs
# no network. As root: sh /boot/firmware/funasr-agent/first-boot.sh; or started once by
# systemd.run= on the kernel's command line, which it takes out again.
# FUNASR_ROOT: another root than / (for tests).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${FUNASR_ROOT:-}
log=$here/first-boot.log

finish() {
    status=$?
    # Started by the kernel's command line: once is enough, whatever came of it.
    for line in "$here/../cmdline.txt" "$root/boot/firmware/cmdline.txt"; do
        if [ -f "$line" ] && grep -q ' systemd\.run=' "$line"; then
            sed -i -e 's/ systemd\.run[^ ]*//g' -e 's/ systemd\.unit=kernel-command-line\.target//' "$line"
        fi
    done
    if [ "$status" = 0 ]; then say "installed"; else say "NOT installed; the lines above say why"; fi
    sync
}
say() { echo "funasr-agent: $*"; echo "funasr-agent: $*" >>"$log" 2>/dev/null || true; }
stop() { say "$*"; exit 1; }
trap finish EXIT

: >"$log" 2>/dev/null || true
[ "$(id -u)" = 0 ] || stop "this needs root: sudo sh $0"
command -v dpkg >/dev/null || stop "this system has no dpkg; Debian, Ubuntu or Raspberry Pi OS is needed"
(cd "$here" && sha256sum --quiet --check SHA256SUMS) >>"$log" 2>&1 ||
    stop "a file in $here is damaged; copy the folder again"
arch=$(dpkg --print-architecture)
tag=cp$(python3 -c 'import sys; print("%d%d" % sys.version_info[:2])') || stop "this system has no python3"
set -- "$here/funasr-agent-runtime-${tag}_"*"_$arch.deb"
[ -e "$1" ] || stop "there is no runtime for Python $tag on $arch in $here; scripts/build-deb --arch $arch makes it"
say "Python $tag on $arch"
# --force-confold: an installation that was set up by its owner keeps its configuration.
fresh=yes
[ ! -e "$root/etc/funasr-agent/config.yaml" ] || fresh=
dpkg --install --force-confold "$1" "$here"/funasr-agent_*_all.deb >>"$log" 2>&1 ||
    { tail -5 "$log"; stop "dpkg could not install the packages"; }

put() { mkdir -p "$root/$(dirname "$2")"; cp "$here/$1" "$root/$2"; chmod 0644 "$root/$2"; }
if [ -n "$fresh" ]; then
    put config.yaml etc/funasr-agent/config.yaml
fi
put avahi.service etc/avahi/services/funasr-agent.service
if [ -d "$root/run/systemd/system" ]; then
    systemctl daemon-reload
    systemctl --no-block restart funasr-agent.service
fi
name=$(hostname)
say "open https://$name.local once it is ready; its state: systemctl status funasr-agent"
