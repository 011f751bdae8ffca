#include "secret.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "support.h"

namespace test {
namespace {

constexpr int length = 24;

// The i-th letter of the secret.
unsigned char secret(int i) {
    return static_cast<unsigned char>('A' + (i * 37 + 11) % 53);
}

}  // namespace

// Lua that makes it: the same sum.
const char *const make_secret = R"(
    function secret()
        local t = {}
        for i = 0, 23 do t[#t + 1] = string.char(65 + (i * 37 + 11) % 53) end
        return table.concat(t)
    end)";

int copies() {
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    EXPECT_GE(memory, 0);
    // Never freed to the process's malloc nor reused: what is read here must not be found by the next search.
    static std::vector<unsigned char> buffer(4 * M);
    const auto buffer_start = reinterpret_cast<std::uintptr_t>(buffer.data());
    int found = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t at = 0;
        std::uintptr_t end = 0;
        char mode[5] = "";
        if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %4s", &at, &end, mode) != 3) continue;
        if (mode[0] != 'r') continue;
        // AddressSanitizer's shadow is terabytes of nothing.
        if (end - at > std::size_t{4} << 30) continue;
        while (at < end) {
            if (at >= buffer_start && at < buffer_start + buffer.size()) {
                at = buffer_start + buffer.size();
                continue;
            }
            std::size_t size = std::min<std::size_t>(end - at, buffer.size());
            if (at < buffer_start && at + size > buffer_start) size = buffer_start - at;
            const ssize_t got = pread(memory, buffer.data(), size, static_cast<off_t>(at));
            if (got <= 0) break;
            const unsigned char *from = buffer.data();
            const unsigned char *const end_of_read = from + got;
            while (end_of_read - from >= length) {
                const auto room = static_cast<std::size_t>(end_of_read - from) - length + 1;
                from = static_cast<const unsigned char *>(std::memchr(from, secret(0), room));
                if (from == nullptr) break;
                int same = 1;
                while (same < length && from[same] == secret(same)) ++same;
                if (same == length) ++found;
                ++from;
            }
            at += static_cast<std::size_t>(got);
        }
    }
    close(memory);
    std::fill(buffer.begin(), buffer.end(), 0);
    return found;
}

void wipe_stack() {
    volatile unsigned char area[64 * K];
    for (std::size_t i = 0; i < sizeof area; ++i) area[i] = 0;
}

}  // namespace test
