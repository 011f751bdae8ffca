// The format of recordings. What is read, however it was damaged, is refused with a reason or makes a program
// that can be replayed: no slot is used twice, every block is freed once, sizes are those that were asked
// for. What the writer writes is read as it was.

#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "must.h"
#include "trace.h"

namespace {

using namespace jemalloc_lua::bench;
using Bytes = std::vector<unsigned char>;

// Does what the requests say, without the memory.
void replay(const Trace &trace) {
    std::vector<std::uint64_t> sizes(trace.slots);  // 0: free
    std::size_t now = 0, peak = 0, allocations = 0;
    for (const Request &request : trace.requests) {
        must(request.slot() < trace.slots);
        std::uint64_t &size = sizes[request.slot()];
        switch (request.op()) {
            case Op::malloc:
                must(size == 0 && request.old_size == 0 && request.new_size != 0);
                break;
            case Op::realloc:
                must(size != 0 && request.old_size == size && request.new_size != 0);
                break;
            case Op::free:
                must(size != 0 && request.old_size == size && request.new_size == 0);
                break;
            default:
                std::abort();
        }
        now += std::size_t{request.new_size} - request.old_size;
        peak = std::max(peak, now);
        size = request.new_size;
        allocations += request.op() != Op::free;
    }
    must(now == 0 && peak == trace.peak_bytes && allocations == trace.allocations);
    must(trace.recorded <= trace.requests.size());
}

void read(const Bytes &bytes) {
    Trace trace;
    std::string why;
    if (parse_trace(bytes, trace, why)) {
        must(why.empty());
        replay(trace);
    } else {
        must(!why.empty() && why.find('\n') == std::string::npos);
    }
}

void append32(Bytes &bytes, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<unsigned char>(value >> 8 * i));
}

// Payloads with the lengths and checksums that belong to them, which no mutation would find.
Bytes wrap(FuzzedDataProvider &in) {
    Bytes bytes{'J', 'L', 'T', 'R', 'A', 'C', 'E', 1};
    while (in.remaining_bytes() > 0) {
        const std::string payload = in.ConsumeRandomLengthString();
        std::uint32_t hash = 2166136261u;
        for (const char c : payload) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
        append32(bytes, static_cast<std::uint32_t>(payload.size()));
        append32(bytes, hash);
        bytes.insert(bytes.end(), payload.begin(), payload.end());
    }
    return bytes;
}

// Writes a program of requests and reads it back.
void write_and_read(FuzzedDataProvider &in) {
    const int file = memfd_create("recording", 0);
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    std::map<std::uintptr_t, std::uint32_t> live;
    std::vector<std::uint32_t> sizes;  // of each allocation, in order
    std::size_t requests = 0;
    {
        TraceWriter writer;
        must(writer.open(path.c_str()));
        while (in.remaining_bytes() > 0) {
            const std::uintptr_t address = (in.ConsumeIntegral<std::uintptr_t>() & ((1ull << 47) - 1)) | 8;
            const std::uintptr_t aligned = address & ~std::uintptr_t{7};
            const auto size = in.ConsumeIntegral<std::uint32_t>() | 1;
            const auto old = live.lower_bound(aligned);
            if (in.ConsumeBool() || old == live.end()) {
                if (!live.emplace(aligned, size).second) continue;
                writer.add_malloc(reinterpret_cast<void *>(aligned), size);
                sizes.push_back(size);
            } else if (in.ConsumeBool()) {
                writer.add_free(reinterpret_cast<void *>(old->first));
                live.erase(old);
            } else {
                const std::uintptr_t before = old->first;
                live.erase(old);
                if (!live.emplace(aligned, size).second) {
                    writer.add_free(reinterpret_cast<void *>(before));
                } else {
                    writer.add_realloc(before, reinterpret_cast<void *>(aligned), size);
                    sizes.push_back(size);
                }
            }
            ++requests;
        }
        must(writer.close());
    }
    Trace trace;
    std::string why;
    must(read_trace(path, trace, why));
    ::close(file);
    replay(trace);
    must(trace.recorded == requests && !trace.cut_short && trace.requests.size() == requests + live.size());
    std::size_t at = 0;
    for (const Request &request : trace.requests) {
        if (request.op() != Op::free) must(request.new_size == sizes.at(at++));
    }
    must(at == sizes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    FuzzedDataProvider in(data, size);
    switch (in.ConsumeIntegralInRange(0, 3)) {
        case 0:
            read(in.ConsumeRemainingBytes<unsigned char>());
            break;
        case 1:
            write_and_read(in);
            break;
        case 2: {  // cut short
            Bytes bytes = wrap(in);
            bytes.resize(bytes.size() - std::min<std::size_t>(bytes.size(), bytes.size() % 17));
            read(bytes);
            break;
        }
        default:
            read(wrap(in));
    }
    return 0;
}
