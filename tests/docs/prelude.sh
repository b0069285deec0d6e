# Put before every shell block of the documentation: what must not be done for real is checked instead.

# Nothing is installed: the requirement must be met by this environment, with its extras.
pip() {
    local said
    if [[ "$1" != install ]]; then "$DOCS_PYTHON" -m pip "$@"; return; fi
    said=$("$DOCS_PYTHON" -m pip "$@" --dry-run --no-index --disable-pip-version-check 2>&1) || { echo "$said"; return 1; }
    if grep "does not provide" <<< "$said"; then return 1; fi
}

# An environment is made, without the seconds that pip takes to move in.
python3() { command python3 "$@" $([[ "${*:1:2}" == "-m venv" ]] && echo --without-pip); }

# A target must exist, with all it depends on.
make() { command make --dry-run -C "$DOCS_ROOT" "$@" > /dev/null; }

# Benchmarks and tests take minutes: the module must be there and have these options, the tests must be found.
python() {
    case "${*:1:2}" in
        "-m benchmarks"*) command python "$@" --help > /dev/null ;;
        "-m pytest") (cd "$DOCS_ROOT" && command python "$@" --collect-only -p no:cacheprovider > /dev/null) ;;
        *) command python "$@" ;;
    esac
}

# What stays in the foreground must be a command with these options.
airflow() {
    case "$1" in
        standalone | scheduler | triggerer) "$DOCS_BIN/airflow" "$@" --help > /dev/null ;;
        *) "$DOCS_BIN/airflow" "$@" ;;
    esac
}

