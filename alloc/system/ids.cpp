#include "system/ids.h"

#include <cerrno>
#include <cstdio>
#include <mutex>
#include <new>

#include "base/process.h"
#include "system/arenas.h"
#include "system/jemalloc.h"

namespace jemalloc_lua {
namespace {

std::uint32_t last_client = Ids::first_client;

void forget_tcaches() {
    for (Ids *ids = &own_ids; ids != nullptr; ids = ids->next) ids->tcaches.fill(Ids::open);
}

[[gnu::constructor]] void watch_forks() {
    static ForkHandler handler{nullptr, nullptr, forget_tcaches};
    at_fork(&handler);
}

}  // namespace

constinit Ids own_ids{::je_mallctl};

Ids *ids_of(Mallctl mallctl) {
    const std::lock_guard guard(process_lock);
    Ids *last = &own_ids;
    for (Ids *each = last; each != nullptr; each = each->next) {
        if (each->mallctl == mallctl) return each;
        last = each;
    }
    void *memory = take_extent(sizeof(Ids), alignof(Ids), shared_arena());
    if (memory != nullptr) last->next = new (memory) Ids{mallctl};
    return last->next;
}

std::uint32_t new_client() {
    const std::lock_guard guard(process_lock);
    return ++last_client;
}

// Under the process's lock: jemalloc's own handler before fork() would miss the locks of an arena that
// another thread is making (jemalloc_prefork() counts them before it holds those that making one takes).
int create_arena(Ids &ids, std::uint32_t owner, unsigned *index, void *hooks) {
    const std::lock_guard guard(process_lock);
    std::size_t size = sizeof *index;
    void *with = hooks == nullptr ? nullptr : static_cast<void *>(&hooks);
    const int error = ids.mallctl("arenas.create", index, &size, with, hooks == nullptr ? 0 : sizeof hooks);
    if (error != 0) return error;
    if (*index >= Ids::count) return EAGAIN;
    ids.arenas[*index] = owner;
    if (owner >= Ids::first_client) {
        ++ids.arenas_of_clients;
        ids.arenas_chosen = 1;
    }
    return 0;
}

void share_arena(Ids &ids, unsigned index) {
    const std::lock_guard guard(process_lock);
    if (index < Ids::count && ids.arenas[index] == Ids::open) ids.arenas[index] = Ids::shared;
}

void destroy_arena(Ids &ids, unsigned index) {
    const std::lock_guard guard(process_lock);
    char name[32];
    std::snprintf(name, sizeof name, "arena.%u.destroy", index);
    if (ids.mallctl(name, nullptr, nullptr, nullptr, 0) != 0) return;
    ids.arenas[index] = Ids::open;
    --ids.arenas_of_clients;
}

int create_tcache(Ids &ids, std::uint32_t owner, unsigned *id) {
    std::size_t size = sizeof *id;
    const std::lock_guard guard(process_lock);
    const int error = ids.mallctl("tcache.create", id, &size, nullptr, 0);
    if (error == 0) ids.tcaches[*id] = owner;
    return error;
}

void destroy_tcache(Ids &ids, unsigned id) {
    const std::lock_guard guard(process_lock);
    if (ids.tcaches[id] == Ids::open) return;
    ids.tcaches[id] = Ids::open;
    ids.mallctl("tcache.destroy", nullptr, nullptr, &id, sizeof id);
}

void flush_tcache(Ids &ids, unsigned id) {
    if (ids.tcaches[id] != Ids::open) ids.mallctl("tcache.flush", nullptr, nullptr, &id, sizeof id);
}

}  // namespace jemalloc_lua
