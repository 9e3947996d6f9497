# Sourced by `run` and `test`: makes .venv when it is missing and installs what pyproject.toml asks for.
# Needs Python 3.11, 3.12, 3.13 or 3.14 with pip and venv, and nothing else. Whatever was interrupted is taken up again.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$top/.venv"

say() { printf 'leanvibe: %s\n' "$*" >&2; }

# is_fit PYTHON: one of the versions that pyproject.toml allows.
is_fit() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

find_python() {
    local name
    if [ -n "${PYTHON:-}" ] && ! is_fit "$PYTHON"; then
        say "PYTHON=$PYTHON is not Python 3.11, 3.12, 3.13 or 3.14; name another one, or none to have one looked for"
        return 1
    fi
    # First the one that everything is tested with.
    for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3 python; do
        if [ -n "$name" ] && is_fit "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    say "Python 3.11, 3.12, 3.13 or 3.14 is needed and was not found; install it, or name it: PYTHON=/path/to/python3 $0"
    return 1
}

# An environment that something can be installed into: its Python starts and its pip is whole.
can_install() {
    [ -x "$venv/bin/python" ] && is_fit "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        ls "$venv"/lib/python*/site-packages/pip-*.dist-info/RECORD >/dev/null 2>&1
}

# prepare EXTRAS: ".venv" with the package and these extras ("" or "[test]"), in under two seconds when nothing changed.
prepare() {
    local extras=$1 stamp wanted python said
    stamp="$venv/.leanvibe$extras"
    wanted="$(cksum "$top/pyproject.toml" "$top/constraints.txt") $top"
    if [ -x "$venv/bin/leanvibe" ] && [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    trap 'say "interrupted; the same command takes it up again"; exit 130' INT
    if ! can_install; then
        python=$(find_python) || exit 1
        if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
            say "this Python has no venv; on Debian or Ubuntu: apt-get install python3-venv"
            exit 1
        fi
        if [ -e "$venv" ]; then
            say "making the environment in .venv anew with $("$python" --version): the one that is there is not whole"
        else
            say "making an environment in .venv with $("$python" --version)"
        fi
        # Interrupted, it would end with its stack.
        if ! said=$("$python" -m venv --clear "$venv" 2>&1); then
            say "the environment could not be made in .venv: ${said##*$'\n'}"
            exit 1
        fi
    fi
    "$venv/bin/python" "$top/scripts/install_packages.py" "$top" "$extras" || exit $?
    printf '%s' "$wanted" >"$stamp"
    trap - INT
}
