#!/bin/sh
# Runs inside a clean tree without network (scripts/test-deb): every step of a package's life.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
lib=/usr/lib/funasr-agent
state=/var/lib/funasr-agent
config=/etc/funasr-agent/config.yaml

step() { printf -- '-- %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
as_agent() { setpriv --reuid funasr-agent --regid funasr-agent --init-groups env HOME=$state "$@"; }
ask() { $lib/env/bin/python3 -I -c '
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode()[:300])' "$1"; }
recognise() {   # every clip's text as transcripts.tsv has it
    as_agent funasr-agent transcribe /clips/*.wav | sed 's,^/clips/,,' | sort >/tmp/heard
    tail -n +2 /clips/transcripts.tsv | cut -f1,3 | sort >/tmp/spoken
    diff /tmp/spoken /tmp/heard || fail "the clips were not recognised as they were spoken"
}

step "no network but lo"
[ "$(grep -c : /proc/net/dev)" = 1 ] || fail "there is a network: $(cat /proc/net/dev)"
step "install, where a group of the unit is missing"
groupdel render 2>/dev/null || true
dpkg -i /packages/*.deb
for group in audio video render; do
    id -nG funasr-agent | grep -qw $group || fail "the service's user is not in the group $group"
done
ls $lib/agent/__pycache__/cli.*.pyc >/dev/null || fail "nothing was compiled"
[ "$(stat -c %U:%a $state)" = funasr-agent:750 ] || fail "$state is not the agent's own"
grep -q "^  - host: 0.0.0.0" $config || fail "$config is not the package's"

step "doctor, as the service's user"
as_agent funasr-agent doctor || fail "doctor found failures"

step "transcribe"
recognise

step "serve"
install -d -o funasr-agent -g funasr-agent /run/funasr-agent
# Not through the function: $! would be a shell around the daemon.
setpriv --reuid funasr-agent --regid funasr-agent --init-groups \
    env HOME=$state funasr-agent serve >/tmp/serve.log 2>&1 &
serve=$!
tries=0
until ask http://127.0.0.1:8080/readyz 2>/dev/null; do
    tries=$((tries + 1)); [ $tries -lt 120 ] || { cat /tmp/serve.log; fail "it was not ready in 60 s"; }
    sleep 0.5
done
ask http://127.0.0.1:8080/ | grep -qi "<!doctype html" || fail "there is no page"
kill $serve
wait $serve || fail "the daemon ended with $? instead of 0"

step "gpu: a copy of the runtime takes its place, a broken one does not, and the way back"
$lib/env/bin/python3 -I /packages/make_wheels.py $lib/runtime-cpu /tmp
funasr-agent gpu status
funasr-agent gpu install --without-gpu --wheel /tmp/onnxruntime_gpu-9.0.0-*.whl
readlink $lib/onnxruntime | grep -q ^gpu/ || fail "the link does not lead to the new runtime"
recognise
if funasr-agent gpu install --without-gpu --wheel /tmp/onnxruntime_gpu-9.1.0-*.whl; then
    fail "a broken runtime was installed"
fi
recognise
if as_agent funasr-agent gpu remove; then fail "the service's user changed the runtime"; fi

step "upgrade: state, a changed configuration and the GPU's runtime stay"
as_agent touch $state/mine
echo "# mine" >>$config
dpkg -i /packages/next/*.deb </dev/null
tail -1 $config | grep -q mine || fail "the changed configuration was overwritten"
[ -e $state/mine ] || fail "the state was lost"
readlink $lib/onnxruntime | grep -q ^gpu/ || fail "the GPU's runtime was lost"
recognise
funasr-agent gpu remove
[ "$(readlink $lib/onnxruntime)" = runtime-cpu ] || fail "the CPU's runtime is not back"
recognise

step "nothing in the state folder is another's, no telemetry"
[ -z "$(find $state ! -user funasr-agent)" ] || fail "$(find $state ! -user funasr-agent)"
[ -z "$(find / -xdev -ipath '*microsoft*DeveloperTools*' 2>/dev/null)" ] || fail "a telemetry file"

step "remove: the state stays"
runtime=$(dpkg-query -W -f '${Package}\n' 'funasr-agent-runtime-*' | head -1)
dpkg -r funasr-agent "$runtime"
[ -e $state/mine ] && [ -e $config ] || fail "removal took state or configuration"
[ ! -e $lib ] || fail "left behind: $(find $lib | head)"

step "purge: everything is gone"
dpkg -P funasr-agent "$runtime"
for path in $state /etc/funasr-agent $lib /usr/bin/funasr-agent /run/funasr-agent; do
    [ ! -e $path ] || fail "left behind: $path"
done
if getent passwd funasr-agent; then fail "the user is still there"; fi
left=$(find / -xdev -path /packages -prune -o -path /tmp -prune -o -name '*funasr*' -print 2>/dev/null |
    grep -v ^/var/log || true)
[ -z "$left" ] || fail "left behind: $left"
step "all passed"
