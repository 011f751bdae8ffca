# shellcheck shell=bash
# What tells ctest's options from wrong ones, for scripts that pass them on.

# ctest itself takes an option that it does not know for none.
of_ctest() {
    local name=${1%%=*}
    case $name in -[A-Za-z]*) name=${name:0:2} ;; esac # as in -j4
    command -v ctest >/dev/null || return 0
    ctest --help | grep -oE -- '(^ +|, )--?[A-Za-z][-A-Za-z]*' | tr -d ' ,' | grep -qxF -- "$name"
}
