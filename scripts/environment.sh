# Sourced by `run` and `test`: makes .venv when it is missing and installs what pyproject.toml asks for.
# Needs Python 3.11 or newer with pip and venv, and nothing else.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$top/.venv"

say() { printf 'leanvibe: %s\n' "$*" >&2; }

find_python() {
    local name
    # First the one that everything is tested with.
    for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
        [ -n "$name" ] || continue
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    say "Python 3.11 or newer is needed and was not found; install it, or name it: PYTHON=/path/to/python3 $0"
    exit 1
}

# prepare EXTRAS: ".venv" with the package and these extras ("" or "[test]"), in under two seconds when nothing changed.
prepare() {
    local extras=$1 stamp wanted python log
    stamp="$venv/.leanvibe$extras"
    if [ -x "$venv/bin/python" ]; then
        wanted="$(cksum "$top/pyproject.toml" "$top/constraints.txt") $top"
        if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
            return
        fi
    else
        python=$(find_python)
        say "making an environment in .venv with $("$python" --version)"
        if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
            say "this Python has no venv; on Debian or Ubuntu: apt-get install python3-venv"
            exit 1
        fi
        "$python" -m venv "$venv"
    fi
    say "installing what it needs (a minute or two the first time)"
    log="$venv/install.log"
    if ! "$venv/bin/python" -m pip install --disable-pip-version-check --quiet \
        --constraint "$top/constraints.txt" --editable "$top$extras" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        say "the installation failed; the whole of what pip said is in .venv/install.log"
        exit 1
    fi
    printf '%s' "$(cksum "$top/pyproject.toml" "$top/constraints.txt") $top" >"$stamp"
}
