-- The names of jemalloc's MALLCTL NAMESPACE, in the one table that mallctl_read(), mallctl_write(), J.ctl and the
-- tests read.
--
-- A line is a name as `man 3 jemalloc` writes it: name, C type, access. <i> and <j> stand for an index,
-- {a,b} for several names that differ in one word. Access is r- (read), -w (write), rw, or -- (an action).
-- An access of ?? marks a name whose value is a C structure or a callback, which Lua cannot reach.
-- What the manual leaves out (hpa, experimental) was taken from the ctl.c of jemalloc 5.3.0 and 5.3.1; a name that
-- one of them lacks is unknown on it.

local _, native = ...

jit.off(true, true) -- this code runs once, and ctl.lua remembers the names that it looks up

local text = [[
version (const char *) r-
epoch (uint64_t) rw
background_thread (bool) rw
max_background_threads (size_t) rw

thread.arena (unsigned) rw
thread.{allocated,deallocated} (uint64_t) r-
thread.{allocatedp,deallocatedp} (uint64_t *) r-
thread.tcache.enabled (bool) rw
thread.tcache.flush (void) --
thread.tcache.max (size_t) rw
thread.tcache.ncached_max.read_sizeclass (size_t, size_t) r-
thread.tcache.ncached_max.write (char *) -w
thread.peak.read (uint64_t) r-
thread.peak.reset (void) --
thread.prof.name (const char *) rw
thread.prof.active (bool) rw
thread.idle (void) --

config.{cache_oblivious,debug,fill,lazy_lock,opt_safety_checks,prof,prof_libgcc,prof_libunwind} (bool) r-
config.{prof_frameptr,stats,utrace,xmalloc} (bool) r-
config.malloc_conf (const char *) r-

opt.{abort,abort_conf,cache_oblivious,confirm_conf,trust_madvise,retain,hpa} (bool) r-
opt.{background_thread,stats_print,zero,utrace,xmalloc,tcache,experimental_infallible_new} (bool) r-
opt.{prof,prof_active,prof_thread_active_init,prof_accum,prof_gdump,prof_final} (bool) r-
opt.{prof_leak,prof_leak_error,prof_stats,prof_sys_thread_name} (bool) r-
opt.{prof_pid_namespace,disable_large_size_classes,experimental_tcache_gc,huge_arena_pac_thp} (bool) r-
opt.{hpa_hugify_sync,experimental_hpa_start_huge_if_thp_always,experimental_hpa_enforce_hugify} (bool) r-
opt.{metadata_thp,dss,percpu_arena,stats_print_opts,stats_interval_opts,junk} (const char *) r-
opt.{thp,prof_prefix,prof_time_resolution,zero_realloc} (const char *) r-
opt.malloc_conf.{symlink,env_var,global_var,global_var_2_conf_harder} (const char *) r-
opt.hpa_hugify_style (const char *) r-
opt.{prof_bt_max,debug_double_free_max_scan} (unsigned) r-
opt.{narenas,tcache_nslots_small_min,tcache_nslots_small_max,tcache_nslots_large} (unsigned) r-
opt.{lg_tcache_flush_small_div,lg_tcache_flush_large_div} (unsigned) r-
opt.{oversize_threshold,max_background_threads,lg_extent_max_active_fit,tcache_max} (size_t) r-
opt.{tcache_gc_incr_bytes,tcache_gc_delay_bytes,lg_prof_sample} (size_t) r-
opt.{hpa_slab_max_alloc,hpa_hugification_threshold,hpa_sec_nshards,hpa_sec_max_alloc} (size_t) r-
opt.{hpa_sec_max_bytes,hpa_sec_bytes_after_flush,hpa_sec_batch_fill_extra} (size_t) r-
opt.{hpa_purge_threshold,process_madvise_max_batch} (size_t) r-
opt.{hpa_hugify_delay_ms,hpa_min_purge_interval_ms,hpa_min_purge_delay_ms} (uint64_t) r-
opt.hpa_dirty_mult (uint32_t) r-
opt.{dirty_decay_ms,muzzy_decay_ms,lg_prof_interval,lg_tcache_nslots_mul} (ssize_t) r-
opt.{prof_recent_alloc_max,lg_san_uaf_align,experimental_hpa_max_purge_nhp} (ssize_t) r-
opt.{stats_interval,mutex_max_spin} (int64_t) r-

tcache.create (unsigned) r-
tcache.{flush,destroy} (unsigned) -w

arena.<i>.initialized (bool) r-
arena.<i>.{decay,purge,reset,destroy} (void) --
arena.<i>.name (char *) rw
arena.<i>.dss (const char *) rw
arena.<i>.{dirty_decay_ms,muzzy_decay_ms} (ssize_t) rw
arena.<i>.{retain_grow_limit,oversize_threshold} (size_t) rw
arena.<i>.extent_hooks (extent_hooks_t *) rw

arenas.{narenas,nbins,nhbins,nlextents} (unsigned) r-
arenas.{dirty_decay_ms,muzzy_decay_ms} (ssize_t) rw
arenas.{quantum,page,hugepage,tcache_max} (size_t) r-
arenas.bin.<i>.{size,slab_size} (size_t) r-
arenas.bin.<i>.{nregs,nshards} (uint32_t) r-
arenas.lextent.<i>.size (size_t) r-
arenas.create (unsigned, extent_hooks_t *) rw
arenas.lookup (unsigned, void*) rw

prof.{thread_active_init,active,gdump} (bool) rw
prof.{dump,prefix} (const char *) -w
prof.reset (size_t) -w
prof.lg_sample (size_t) r-
prof.interval (uint64_t) r-
prof.log_start (const char *) -w
prof.log_stop (void) --
prof.stats.{bins,lextents}.<i>.{live,accum} (prof_stats_t) ??

approximate_stats.active (size_t) r-
stats.{allocated,active,metadata,metadata_edata,metadata_rtree,metadata_thp,resident} (size_t) r-
stats.{mapped,retained,zero_reallocs} (size_t) r-
stats.background_thread.num_threads (size_t) r-
stats.background_thread.{num_runs,run_interval} (uint64_t) r-
stats.mutexes.reset (void) --
stats.mutexes.{background_thread,max_per_bg_thd,ctl,prof,prof_thds_data,prof_dump}.<counter>
stats.mutexes.{prof_recent_alloc,prof_recent_dump,prof_stats}.<counter>

stats.arenas.<i>.dss (const char *) r-
stats.arenas.<i>.{dirty_decay_ms,muzzy_decay_ms} (ssize_t) r-
stats.arenas.<i>.nthreads (unsigned) r-
stats.arenas.<i>.{uptime,dirty_npurge,dirty_nmadvise,dirty_purged} (uint64_t) r-
stats.arenas.<i>.{muzzy_npurge,muzzy_nmadvise,muzzy_purged} (uint64_t) r-
stats.arenas.<i>.{pactive,pdirty,pmuzzy,mapped,retained,extent_avail,base,internal} (size_t) r-
stats.arenas.<i>.{metadata_thp,tcache_bytes,tcache_stashed_bytes,resident} (size_t) r-
stats.arenas.<i>.{abandoned_vm,metadata_edata,metadata_rtree} (size_t) r-
stats.arenas.<i>.hpa_sec_{bytes,hits,misses,dalloc_flush,dalloc_noflush,overfills} (size_t) r-
stats.arenas.<i>.{small,large}.allocated (size_t) r-
stats.arenas.<i>.{small,large}.{nmalloc,ndalloc,nrequests,nfills,nflushes} (uint64_t) r-
stats.arenas.<i>.bins.<j>.{nmalloc,ndalloc,nrequests,nfills,nflushes,nslabs,nreslabs} (uint64_t) r-
stats.arenas.<i>.bins.<j>.{curregs,curslabs,nonfull_slabs} (size_t) r-
stats.arenas.<i>.bins.<j>.mutex.<counter>
stats.arenas.<i>.lextents.<j>.{nmalloc,ndalloc,nrequests} (uint64_t) r-
stats.arenas.<i>.lextents.<j>.curlextents (size_t) r-
stats.arenas.<i>.extents.<j>.{ndirty,nmuzzy,nretained} (size_t) r-
stats.arenas.<i>.extents.<j>.{dirty_bytes,muzzy_bytes,retained_bytes} (size_t) r-
stats.arenas.<i>.mutexes.{large,extent_avail,extents_dirty,extents_muzzy,extents_retained}.<counter>
stats.arenas.<i>.mutexes.{decay_dirty,decay_muzzy,base,tcache_list}.<counter>
stats.arenas.<i>.mutexes.{hpa_shard,hpa_shard_grow,hpa_sec}.<counter>
stats.arenas.<i>.hpa_shard.{npurge_passes,npurges,nhugifies,nhugify_failures,ndehugifies} (uint64_t) r-
stats.arenas.<i>.hpa_shard.{npageslabs,nactive,ndirty} (size_t) r-
stats.arenas.<i>.hpa_shard.{slabs,full_slabs,empty_slabs,nonfull_slabs.<j>}.<slabs>

experimental.hooks.{install,remove,prof_backtrace,prof_dump,prof_sample,prof_sample_free} (hook_t) ??
experimental.hooks.{safety_check_abort,thread_event} (hook_t) ??
experimental.thread.activity_callback (activity_callback_t) ??
experimental.utilization.{query,batch_query} (extent_util_stats_t) ??
experimental.arenas.<i>.pactivep (size_t *) r-
experimental.arenas_create_ext (arena_config_t) ??
experimental.prof_recent.alloc_max (ssize_t) rw
experimental.prof_recent.alloc_dump (write_cb_packet_t) ??
experimental.batch_alloc (batch_alloc_packet_t) ??
]]

-- Endings that many names share.
local families = {
    ["<counter>"] = {
        "{num_ops,num_wait,num_spin_acq,num_owner_switch,total_wait_time,max_wait_time} (uint64_t) r-",
        "max_num_thds (uint32_t) r-",
    },
    ["<slabs>"] = {
        "{npageslabs_nonhuge,npageslabs_huge,nactive_nonhuge,nactive_huge} (size_t) r-",
        "{ndirty_nonhuge,ndirty_huge} (size_t) r-",
    },
}

-- Names of jemalloc 3.5 that have another name in jemalloc 5. Names without a successor (opt.lg_chunk,
-- opt.lg_dirty_mult, opt.quarantine, opt.redzone, opt.valgrind, stats.cactive, stats.chunks.*, stats.huge.*) are
-- unknown here as they are to jemalloc.
local successors = {
    ["arenas.extend"] = "arenas.create",
    ["arenas.nlruns"] = "arenas.nlextents",
    ["arenas.lrun.<i>.size"] = "arenas.lextent.<i>.size",
    ["arenas.bin.<i>.run_size"] = "arenas.bin.<i>.slab_size",
    ["stats.arenas.<i>.npurge"] = "stats.arenas.<i>.dirty_npurge",
    ["stats.arenas.<i>.nmadvise"] = "stats.arenas.<i>.dirty_nmadvise",
    ["stats.arenas.<i>.purged"] = "stats.arenas.<i>.dirty_purged",
    ["stats.arenas.<i>.bins.<j>.nruns"] = "stats.arenas.<i>.bins.<j>.nslabs",
    ["stats.arenas.<i>.bins.<j>.nreruns"] = "stats.arenas.<i>.bins.<j>.nreslabs",
    ["stats.arenas.<i>.bins.<j>.curruns"] = "stats.arenas.<i>.bins.<j>.curslabs",
    ["stats.arenas.<i>.lruns.<j>.nmalloc"] = "stats.arenas.<i>.lextents.<j>.nmalloc",
    ["stats.arenas.<i>.lruns.<j>.ndalloc"] = "stats.arenas.<i>.lextents.<j>.ndalloc",
    ["stats.arenas.<i>.lruns.<j>.nrequests"] = "stats.arenas.<i>.lextents.<j>.nrequests",
    ["stats.arenas.<i>.lruns.<j>.curruns"] = "stats.arenas.<i>.lextents.<j>.curlextents",
}

local names = {}    -- "arena.<i>.purge" -> {name=, type=, input=, access=}, input being what a read takes in
local children = {} -- "arena.<i>" -> {purge = true, ...}, the tree of the names

local function add(name, ctype, access)
    local input
    if ctype:find(", ", 1, true) then
        ctype, input = ctype:match("^(.-), (.*)$")
    end
    names[name] = { name = name, type = ctype, input = input, access = access }
    local path = ""
    for word in name:gmatch("[^.]+") do
        children[path] = children[path] or {}
        children[path][word] = true
        path = path == "" and word or path .. "." .. word
    end
end

local function expand(line)
    for family, tails in pairs(families) do
        local head = line:match("^(.*)" .. family .. "$")
        if head then
            for _, tail in ipairs(tails) do
                expand(head .. tail)
            end
            return
        end
    end
    local head, alternatives, tail = line:match("^(.-){(.-)}(.*)$")
    if head then
        for word in alternatives:gmatch("[^,]+") do
            expand(head .. word .. tail)
        end
        return
    end
    add(line:match("^(%S+) %((.-)%) (%S%S)$"))
end

for line in text:gmatch("[^\n]+") do
    expand(line)
end

-- For a name as programs write it ("arena.0.purge"): its entry, and the name by which jemalloc knows it. nil if the
-- table lacks it.
local function find(name)
    local generic = name
    if name:find("%d") then
        local letters = 0
        generic = ("." .. name .. "."):gsub("%f[^.](%d+)%f[.]", function()
            letters = letters + 1
            return letters == 1 and "<i>" or "<j>"
        end):sub(2, -2)
    end
    local successor = successors[generic]
    if successor then
        local indices = name:gmatch("%f[^.](%d+)%f[.]")
        name = successor:gsub("<[ij]>", function() return indices() end)
        generic = successor
    end
    return names[generic], name
end

native.names = { all = names, children = children, successors = successors, find = find }
