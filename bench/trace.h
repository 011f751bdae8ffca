// Recorded allocations: what a Lua program asked of its allocator, in order.
//
// A recording is a file that begins with eight bytes, "JLTRACE" and the version, followed by blocks:
//
//     length   4 bytes, little endian: bytes of the payload
//     checksum 4 bytes, little endian: FNV-1a of the payload
//     payload  whole records, one after the other
//
// A record is one to three varints (seven bits a byte, low bits first). The first holds the operation in its
// two low bits and, above them, the distance of the block's address from the previous record's (in units of 8
// bytes, zigzag), which is one or two bytes long for most, because programs allocate and free neighbours:
//
//     malloc   operation and address; size
//     free     operation and address
//     realloc  operation and old address; distance to the new address; new size
//
// Addresses are written as they are, so that recording costs no look-up; reading turns them into slots. What
// a crash cuts off is the last block or a part of it: reading stops at the last whole record and says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace jemalloc_lua::bench {

enum class Op : std::uint32_t { malloc = 0, free = 1, realloc = 2 };

// A request in the form for replay: which block, and its sizes before and after.
struct Request {
    Request(Op op, std::uint32_t slot, std::uint32_t old_size, std::uint32_t new_size)
        : slot_and_op(slot << 2 | static_cast<std::uint32_t>(op)), old_size(old_size), new_size(new_size) {}

    Op op() const { return static_cast<Op>(slot_and_op & 3); }
    std::uint32_t slot() const { return slot_and_op >> 2; }
    bool operator==(const Request &) const = default;

    std::uint32_t slot_and_op;
    std::uint32_t old_size;  // bytes; 0 for malloc
    std::uint32_t new_size;  // bytes; 0 for free
};

struct Trace {
    std::vector<Request> requests;
    std::uint32_t slots = 0;      // the most blocks alive at once
    std::size_t peak_bytes = 0;   // the most bytes alive at once
    std::size_t recorded = 0;     // requests in the file; those after them free what was left alive
    bool cut_short = false;       // the recording ended in the middle of a block
    std::size_t allocations = 0;  // mallocs and reallocs
};

// Reads a recording. False, and one line in `why`, for a file that is none or is damaged.
bool read_trace(const std::string &path, Trace &trace, std::string &why);
bool parse_trace(const std::vector<unsigned char> &bytes, Trace &trace, std::string &why);

// Writes records to a file; errors are remembered until close().
class TraceWriter {
  public:
    TraceWriter() = default;
    TraceWriter(const TraceWriter &) = delete;
    TraceWriter &operator=(const TraceWriter &) = delete;
    ~TraceWriter() { close(); }

    // False, and errno, when the file can't be made.
    bool open(const char *path);

    void add_malloc(const void *block, std::size_t size) {
        address(Op::malloc, block);
        varint(size);
        end_record();
    }
    void add_free(const void *block) {
        address(Op::free, block);
        end_record();
    }
    void add_realloc(std::uintptr_t old_block, const void *block, std::size_t size) {
        address(Op::realloc, reinterpret_cast<void *>(old_block));
        varint(distance(block));
        varint(size);
        end_record();
    }

    // Writes what is buffered and closes. False, and errno, if any write failed.
    bool close();

  private:
    static constexpr std::size_t block_size = 64 * 1024;
    static constexpr std::size_t header_size = 8;
    static constexpr std::size_t longest_record = 30;

    std::uint64_t distance(const void *block) {
        const auto now = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(block) >> 3);
        const std::int64_t delta = now - last_;
        last_ = now;
        return static_cast<std::uint64_t>(delta) << 1 ^ static_cast<std::uint64_t>(delta >> 63);
    }
    void address(Op op, const void *block) { varint(distance(block) << 2 | static_cast<std::uint64_t>(op)); }
    void varint(std::uint64_t value) {
        while (value >= 0x80) {
            buffer_[used_++] = static_cast<unsigned char>(value | 0x80);
            value >>= 7;
        }
        buffer_[used_++] = static_cast<unsigned char>(value);
    }
    void end_record() {
        if (used_ > block_size - longest_record) write_block();
    }
    void write_block();

    int file_ = -1;
    int error_ = 0;
    std::int64_t last_ = 0;
    std::size_t used_ = header_size;
    unsigned char buffer_[block_size];
};

}  // namespace jemalloc_lua::bench
