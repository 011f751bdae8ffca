# shellcheck shell=bash
# Where scripts build: below the source, or in the user's cache where the source may not be written to.

# build_folder SOURCE
build_folder() {
    local folder
    for folder in "$1/build" "$1"; do
        [ -d "$folder" ] || continue
        if [ -w "$folder" ]; then
            printf '%s\n' "$1/build"
            return
        fi
        break
    done
    printf '%s/jemalloc_lua/build-%s\n' "${XDG_CACHE_HOME:-${HOME:-}/.cache}" "$(printf %s "$1" | cksum | cut -d ' ' -f 1)"
}
