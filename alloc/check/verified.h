// Verified: an entry around any front that holds each call against a table of the live blocks.
//
// Each block ends with a red zone of 16 bytes. A freed block waits in a quarantine before the front gets it
// back, so that a use after free meets a block that nobody else has. front:checked is this around the direct
// front: red zone and quarantine are filled with patterns that are looked at later, and whatever does not fit
// ends the process with a report that names the block. Under AddressSanitizer and memcheck slab heaps have it
// too, and the tool itself watches red zone and quarantine (tools.h).
#pragma once

#include "heap/heap.h"

namespace jemalloc_lua {

// Puts the entry on a heap that has handed out no block yet, if the options or a tool ask for it. False: out
// of memory.
bool verify_if_wanted(Heap &heap, const Options &options);

// For tests of what a heap does by itself: whether a tool is told of the slab heaps that are made from now
// on.
void let_tools_watch(bool wanted);

void *verified_entry(void *ud, void *ptr, std::size_t old_size, std::size_t new_size);

}  // namespace jemalloc_lua
