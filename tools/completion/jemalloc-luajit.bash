# shellcheck shell=bash
# Completion for bash of jemalloc-luajit and with-jemalloc. The options of the heap and what they take are those
# that the command itself tells.

# Prints "key word word..." for each option of a heap; with `all`, also for those of the process as a whole.
_jemalloc_luajit_keys() {
    "$1" --jemalloc-help 2>/dev/null | awk -v all="$2" '
        NR <= 3 { next }
        /^in JEMALLOC_LUA_CONF only:/ { if (all == "") exit; next }
        /^[a-z]/ { key = $1; next }
        key != "" {
            sub(/ or the index.*| \(.*/, "")
            gsub(/,| or /, " ")
            if ($0 ~ /^( +[A-Za-z0-9]+)+ *$/ && $0 !~ /bytes|milliseconds|percent/) print key, $0
            else print key
            key = ""
        }'
}

# Completes the last pair of KEY:VALUE,KEY:VALUE in $3, with the command $1.
_jemalloc_luajit_conf() {
    local done='' pair=$3 key words
    case $pair in
        *,*)
            done=${pair%,*},
            pair=${pair##*,}
            ;;
    esac
    while read -r key words; do
        case $pair in
            "$key":*)
                mapfile -t COMPREPLY < <(compgen -P "$done$key:" -W "$words" -- "${pair#*:}")
                break
                ;;
            "${pair%%:*}"*)
                [[ $key != "$pair"* || ,$done == *,"$key":* ]] || COMPREPLY+=("$done$key:")
                ;;
        esac
    done < <(_jemalloc_luajit_keys "$1" "$2")
    compopt -o nospace 2>/dev/null
}

# bash takes "limit:64M" for three words and replaces the last only: what it keeps is cut from the answers.
_jemalloc_luajit_cut() {
    local last=$1 char
    for char in : =; do
        [[ $COMP_WORDBREAKS != *"$char"* ]] || last=${last##*"$char"}
    done
    COMPREPLY=("${COMPREPLY[@]#"${1%"$last"}"}")
}

_jemalloc_luajit() {
    local line=${COMP_LINE:0:COMP_POINT} word before
    word=${line##*[[:space:]]}
    before=${line%"$word"}
    before=${before%"${before##*[![:space:]]}"}
    before=${before##*[[:space:]]}
    COMPREPLY=()
    case $before:$word in
        *:--jemalloc=*)
            _jemalloc_luajit_conf "$1" '' "${word#*=}"
            COMPREPLY=("${COMPREPLY[@]/#/--jemalloc=}")
            ;;
        *:--jemalloc-stats=*) mapfile -t COMPREPLY < <(compgen -P --jemalloc-stats= -W 'table json' -- "${word#*=}") ;;
        --jemalloc:*) _jemalloc_luajit_conf "$1" '' "$word" ;;
        --jemalloc-allocator:*) mapfile -t COMPREPLY < <(compgen -W 'heap builtin system' -- "$word") ;;
        *:-*) mapfile -t COMPREPLY < <("$1" -h 2>&1 | awk '/^  -/ { sub(/\[.*/, "", $1); print $1 }' |
            grep -e "^$word") ;;
        *) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    esac
    _jemalloc_luajit_cut "$word"
}

_with_jemalloc() {
    local line=${COMP_LINE:0:COMP_POINT} word words i=1
    word=${line##*[[:space:]]}
    read -ra words <<<"${line%"$word"}"
    while [[ ${words[i]:-} == -* && ${words[i]} != -- ]]; do
        if [[ ${words[i]} == --conf ]]; then i=$((i + 1)); fi
        i=$((i + 1))
    done
    COMPREPLY=()
    if [ "$i" -lt "${#words[@]}" ] && [ "${words[i]}" != -- ]; then # the command is there
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [ "$i" -gt "${#words[@]}" ]; then # after --conf
        _jemalloc_luajit_conf jemalloc-luajit all "$word"
    elif [[ $word == -* && ${words[i]:-} != -- ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--stats --verbose --conf --help --' -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
    fi
    _jemalloc_luajit_cut "$word"
}

complete -o filenames -F _jemalloc_luajit jemalloc-luajit
complete -o filenames -F _with_jemalloc with-jemalloc
