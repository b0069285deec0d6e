# This runs before every shell block of the documentation. It replaces commands that a test must not execute by a check.

# `pip install` installs nothing: this environment must already meet the requirement, including its extras.
pip() {
    local said
    if [[ "$1" != install ]]; then "$DOCS_PYTHON" -m pip "$@"; return; fi
    said=$("$DOCS_PYTHON" -m pip "$@" --dry-run --no-index --disable-pip-version-check 2>&1) || { echo "$said"; return 1; }
    if grep "does not provide" <<< "$said"; then return 1; fi
}

# `python3 -m venv` creates an environment without pip, which saves seconds.
python3() { command python3 "$@" $([[ "${*:1:2}" == "-m venv" ]] && echo --without-pip); }

# `make` checks that the target and everything it depends on exist.
make() { command make --dry-run -C "$DOCS_ROOT" "$@" > /dev/null; }

# Benchmarks and tests take minutes: the module must accept these options, and pytest must find the tests.
python() {
    case "${*:1:2}" in
        "-m benchmarks"*) command python "$@" --help > /dev/null ;;
        "-m pytest") (cd "$DOCS_ROOT" && command python "$@" --collect-only -p no:cacheprovider > /dev/null) ;;
        *) command python "$@" ;;
    esac
}

# Commands that stay in the foreground must accept these options.
airflow() {
    case "$1" in
        standalone | scheduler | triggerer) "$DOCS_BIN/airflow" "$@" --help > /dev/null ;;
        *) "$DOCS_BIN/airflow" "$@" ;;
    esac
}

