# Shared by the scripts: the Python to use, the environment, system packages.
# Sourced; expects the repository root as the working folder.

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

can_install() {
    command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_updated=
install_packages() {   # install_packages PACKAGE...
    can_install || return 1
    if [ -z "$apt_updated" ]; then as_root apt-get update -qq >/dev/null || return 1; apt_updated=1; fi
    say "Installing system packages: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {        # prints the interpreter: $PYTHON, else the newest supported one
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c \
            'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"; return 0
        fi
    done
    return 1
}

make_environment() {   # make_environment VENV EXTRAS  ("" or "[test]")
    local venv=$1 extras=$2 python stamp wanted
    python=$(find_python) || {
        install_packages python3 python3-venv || die "Python 3.10 to 3.13 is needed. Install it with:
    apt-get install python3 python3-venv"
        python=$(find_python) || die "No Python between 3.10 and 3.13 was found; set PYTHON=/path/to/python3."
    }
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3-venv && "$python" -c 'import ensurepip' 2>/dev/null || \
            die "$python can't make an environment. Install it with:
    apt-get install python3-venv"
    fi
    stamp=$venv/.installed
    wanted=$(cat pyproject.toml constraints.txt | cksum; "$python" -V)
    if [ -x "$venv/bin/python" ]; then   # an environment with more extras serves as well
        case "$(cat "$stamp" 2>/dev/null)" in "$wanted"*"$extras"*) return 0 ;; esac
    fi
    say "Making the environment in $venv with $("$python" -V 2>&1)"
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$venv"
    gpu_runtime_aside "$venv"
    say "Installing the agent and what it needs"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        -c constraints.txt -e ".$extras" || die "The packages could not be installed; the lines above say why."
    gpu_runtime_again "$venv"
    printf '%s %s' "$wanted" "$extras" > "$stamp"
}

gpu_was=
gpu_runtime_aside() {  # pip would put the CPU's runtime on top of the GPU's: the CPU's comes back first
    compgen -G "$1/lib/python3*/site-packages/.funasr-agent-runtimes/cpu" >/dev/null || return 0
    gpu_was=yes
    "$1/bin/python" -m agent gpu remove >&2 || die "The GPU's runtime could not be put aside; the line above says why."
}

gpu_runtime_again() {  # as scripts/install-gpu was told to
    [ -n "$gpu_was" ] || return 0
    [ -s "$1/.gpu" ] && xargs -0 "$1/bin/python" -m agent gpu install < "$1/.gpu" >&2 || \
        say "The GPU's runtime was not installed again and the CPU's is used; run ./scripts/install-gpu."
}

debian_mirror() {      # prints Debian's mirror: $MIRROR, else the one that apt uses here; nothing: mmdebstrap's own
    [ -n "${MIRROR:-}" ] && { echo "$MIRROR"; return; }
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "Debian" { print $1; exit }'
}

add_microphone() {     # add_microphone VENV  (PyAudio has no wheels; without it all else works)
    local venv=$1 python=$1/bin/python tried=$1/.microphone missing=() include
    "$python" -c 'import pyaudio' 2>/dev/null && return 0
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    [ -e /usr/include/portaudio.h ] || [ -e /usr/local/include/portaudio.h ] || missing+=(portaudio19-dev)
    command -v gcc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
    [ -e "$include/Python.h" ] || missing+=("$(basename "$include")-dev")
    if [ ${#missing[@]} -gt 0 ]; then   # apt is asked once, not at every start
        if [ -e "$tried" ] || ! install_packages "${missing[@]}"; then
            : > "$tried"
            say "Going on without a microphone of the box's own. For one, type:
    apt-get install ${missing[*]}"
            return 0
        fi
    fi
    say "Installing PyAudio for the box's own microphone"
    "$python" -m pip install -qq --disable-pip-version-check -c constraints.txt "pyaudio>=0.2.14" >&2 || \
        say "PyAudio could not be installed; going on without a microphone of the box's own."
}
