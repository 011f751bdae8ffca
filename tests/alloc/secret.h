// A secret, and the search of the process's whole memory for it. The secret is never in memory of the test
// itself: it is kept, compared and handed to Lua in disguise.
#pragma once

namespace test {

// Lua that defines secret(), which returns it: 24 letters.
extern const char *const make_secret;

// How often it stands in readable memory of this process, through /proc/self/mem.
int copies();

// Clears what calls of Lua may have left on the C stack.
[[gnu::noinline]] void wipe_stack();

}  // namespace test
