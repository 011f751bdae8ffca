# Completion for fish of jemalloc-luajit. The options and what they take are those that the command itself tells.

# The last pair of key:value,key:value, each answer with the pairs before it.
function __jemalloc_luajit_conf
    set -l token (string replace -r '^--jemalloc=' '' -- (commandline -ct))
    set -l before (string match -r '^.*,' -- $token)
    jemalloc-luajit --jemalloc-help 2>/dev/null | string match -rv '^(usage|option|$)' | while read -l line
        string match -q 'in JEMALLOC_LUA_CONF only:' -- $line; and break
        if string match -qr '^[a-z]' -- $line
            set key (string match -r '^\S+' -- $line)
            set what (string match -r '^\S+ +\S+ +(.*):$' -- $line)[2]
        else
            set -l takes (string trim -- (string replace -r ' or the index.*| \(.*' '' -- $line))
            if string match -qr '^[a-z]+((, | or )[a-z]+)+$' -- $takes
                for word in (string split ' ' -- (string replace -ra ',| or ' ' ' -- $takes | string replace -ra ' +' ' '))
                    printf '%s%s:%s\t%s\n' "$before" $key $word $what
                end
            else
                printf '%s%s:\t%s\n' "$before" $key $what
            end
        end
    end
end

complete -c jemalloc-luajit -l jemalloc -x -a '(__jemalloc_luajit_conf)' -d 'Set heap options'
complete -c jemalloc-luajit -l jemalloc-allocator -x -a 'heap builtin system' -d 'What memory comes from'
for line in (jemalloc-luajit -h 2>&1 | string match -r '^  -.*')
    set -l name (string match -r '^  --?([a-zA-Z][a-z-]*)' -- $line)[2]
    set -l what (string match -r '^  \S+(?: \S+)?  +(.*)$' -- $line)[2]
    set -l takes (string match -qr '^  \S+ (name|chunk|cmd|FILE) ' -- $line; and echo -- -r)
    if not contains -- "$name" '' jemalloc jemalloc-allocator
        complete -c jemalloc-luajit (test (string length -- $name) = 1; and echo -- -s; or echo -- -l) $name $takes \
            -d "$what"
    end
end
