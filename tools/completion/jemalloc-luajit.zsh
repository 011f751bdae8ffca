#compdef jemalloc-luajit
# Completion for zsh of jemalloc-luajit. The options and what they take are those that the command itself tells.

# Specifications for _values: key[what it does]:value:(word word).
_jemalloc_luajit_keys() {
    "$1" --jemalloc-help 2>/dev/null | awk '
        NR <= 3 { next }
        /^in JEMALLOC_LUA_CONF only:/ { exit }
        /^[a-z]/ {
            key = $1
            what = $0
            sub(/^[^ ]+ +[^ ]+ +/, "", what)
            sub(/:$/, "", what)
            gsub(/\[|\]|:/, "\\\\&", what)
            next
        }
        key != "" {
            sub(/ or the index.*| \(.*/, "")
            gsub(/,| or /, " ")
            sub(/^ +/, "")
            words = $0 ~ /^[a-z ]+$/ && $0 !~ /bytes|milliseconds|percent/ ? $0 : " "
            printf "%s[%s]:value:(%s)\n", key, what, words
            key = ""
        }'
}

# Specifications for _arguments, of all options but those that complete by themselves below.
_jemalloc_luajit_options() {
    "$1" -h 2>&1 | awk '
        /^  --?[a-zA-Z]/ && $1 != "--jemalloc" && $1 != "--jemalloc-allocator" {
            name = $1
            sub(/\[.*/, "", name)
            what = $0
            sub(/^  [^ ]+( [^ ]+)?  +/, "", what)
            gsub(/\[|\]|:/, "\\\\&", what)
            takes = $0 ~ /^  [^ ]+ (name|chunk|cmd|FILE) / ? ":" $2 ":" ($2 == "FILE" ? "_files" : "") : ""
            print name "[" what "]" takes
        }'
}

_jemalloc_luajit_conf() {
    _values -s , -S : 'option of the heap' "${(@f)$(_jemalloc_luajit_keys $service)}"
}

_jemalloc-luajit() {
    _arguments "${(@f)$(_jemalloc_luajit_options $service)}" \
        '*--jemalloc=[Set heap options]:options:_jemalloc_luajit_conf' \
        '--jemalloc-allocator=[What memory comes from]:allocator:(heap builtin system)' \
        '*:script:_files'
}

[[ ${funcstack[1]} != _jemalloc-luajit ]] || _jemalloc-luajit "$@"
