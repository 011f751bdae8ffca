// Writing and reading recordings; the format is told in trace.h.

#include "trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <unordered_map>

namespace jemalloc_lua::bench {
namespace {

constexpr std::size_t longest_payload = 64 * 1024;
constexpr unsigned char magic[8] = {'J', 'L', 'T', 'R', 'A', 'C', 'E', 1};

std::uint32_t checksum(const unsigned char *bytes, std::size_t length) {
    std::uint32_t hash = 2166136261u;
    for (std::size_t i = 0; i < length; ++i) hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

void put32(unsigned char *out, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) out[i] = static_cast<unsigned char>(value >> 8 * i);
}

std::uint32_t get32(const unsigned char *in) {
    return in[0] | in[1] << 8 | in[2] << 16 | static_cast<std::uint32_t>(in[3]) << 24;
}

bool write_all(int file, const unsigned char *bytes, std::size_t length) {
    while (length > 0) {
        const ssize_t written = ::write(file, bytes, length);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        bytes += written;
        length -= static_cast<std::size_t>(written);
    }
    return true;
}

std::int64_t unzigzag(std::uint64_t value) {
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

// Reads varints from one payload.
class Cursor {
  public:
    Cursor(const unsigned char *at, const unsigned char *end) : at_(at), end_(end) {}

    bool at_end() const { return at_ == end_; }

    // False at the end of the bytes or for a number of more than 64 bits (`malformed`).
    bool varint(std::uint64_t &value) {
        value = 0;
        for (int shift = 0; at_ != end_; shift += 7) {
            const unsigned char byte = *at_++;
            if (shift > 63 || (shift == 63 && byte > 1)) return !(malformed = true);
            value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
            if (byte < 0x80) return true;
        }
        return false;
    }

    bool malformed = false;

  private:
    const unsigned char *at_;
    const unsigned char *end_;
};

// Turns records with addresses into requests with slots.
class Builder {
  public:
    explicit Builder(Trace &trace) : trace_(trace) {}

    // One record. False at the end of the payload or for one that makes no sense (then `why` is set).
    bool record(Cursor &in, std::string &why) {
        const std::int64_t start = last_;
        std::uint64_t first = 0, moved = 0, size = 0;
        bool whole = in.varint(first);
        const auto op = static_cast<Op>(first & 3);
        const std::uint64_t address = step(first >> 2);
        std::uint64_t target = address;
        if (whole && op == Op::realloc) {
            whole = in.varint(moved);
            target = step(moved);
        }
        if (whole && op != Op::free) whole = in.varint(size);
        if (!whole || static_cast<std::uint32_t>(op) > 2 || size > UINT32_MAX ||
            (op != Op::free && size == 0)) {
            last_ = start;
            if (in.malformed || whole) why = "a record that makes no sense";
            return false;
        }
        return apply(op, address, target, static_cast<std::uint32_t>(size), why);
    }

    // Frees what is alive at the end, in the order in which it was made: as a closing state does.
    void finish() {
        trace_.recorded = trace_.requests.size();
        std::vector<Live> rest;
        for (const auto &[address, live] : live_) rest.push_back(live);
        std::sort(rest.begin(), rest.end(), [](const Live &a, const Live &b) { return a.made < b.made; });
        for (const Live &live : rest) trace_.requests.emplace_back(Op::free, live.slot, live.size, 0);
    }

  private:
    struct Live {
        std::uint32_t slot;
        std::uint32_t size;
        std::size_t made;
    };

    std::uint64_t step(std::uint64_t zigzag) {
        last_ = static_cast<std::int64_t>(static_cast<std::uint64_t>(last_) +
                                          static_cast<std::uint64_t>(unzigzag(zigzag)));
        return static_cast<std::uint64_t>(last_);
    }

    bool apply(Op op, std::uint64_t address, std::uint64_t target, std::uint32_t size, std::string &why) {
        const auto known = live_.find(address);
        if (op == Op::free) {
            if (known == live_.end()) return true;  // older than the recording
            trace_.requests.emplace_back(Op::free, known->second.slot, known->second.size, 0);
            bytes_ -= known->second.size;
            free_slots_.push_back(known->second.slot);
#ifndef JEMALLOC_LUA_SEEDED_FAULT
            live_.erase(known);
#endif
            return true;
        }
        ++trace_.allocations;
        if (op == Op::malloc || known == live_.end()) return make(target, size, why);
        Live block = known->second;
        trace_.requests.emplace_back(Op::realloc, block.slot, block.size, size);
        add_bytes(size, block.size);
        block.size = size;
        live_.erase(known);
        return place(target, block, why);
    }

    bool make(std::uint64_t address, std::uint32_t size, std::string &why) {
        std::uint32_t slot = trace_.slots;
        if (!free_slots_.empty()) {
            slot = free_slots_.back();
            free_slots_.pop_back();
        } else {
            ++trace_.slots;
        }
        trace_.requests.emplace_back(Op::malloc, slot, 0, size);
        add_bytes(size, 0);
        return place(address, {slot, size, trace_.requests.size()}, why);
    }

    bool place(std::uint64_t address, const Live &block, std::string &why) {
        if (live_.emplace(address, block).second) return true;
        why = "a block that is handed out twice";
        return false;
    }

    void add_bytes(std::size_t now, std::size_t before) {
        bytes_ += now - before;
        trace_.peak_bytes = std::max(trace_.peak_bytes, bytes_);
    }

    Trace &trace_;
    std::int64_t last_ = 0;
    std::size_t bytes_ = 0;
    std::unordered_map<std::uint64_t, Live> live_;
    std::vector<std::uint32_t> free_slots_;
};

}  // namespace

bool parse_trace(const std::vector<unsigned char> &bytes, Trace &trace, std::string &why) {
    trace = {};
    why.clear();
    if (bytes.size() < sizeof magic || std::memcmp(bytes.data(), magic, sizeof magic - 1) != 0) {
        why = "not a recording of allocations";
        return false;
    }
    if (bytes[7] != magic[7]) {
        why = "a recording of version " + std::to_string(bytes[7]) + "; this program reads version " +
              std::to_string(magic[7]);
        return false;
    }
    Builder builder(trace);
    std::size_t at = sizeof magic;
    while (at < bytes.size() && !trace.cut_short) {
        const std::size_t rest = bytes.size() - at;
        if (rest < 8) {
            trace.cut_short = true;
            break;
        }
        std::size_t length = get32(&bytes[at]);
        const std::uint32_t sum = get32(&bytes[at + 4]);
        trace.cut_short = length > rest - 8 && length <= longest_payload;
        if (trace.cut_short) length = rest - 8;
        if (length > longest_payload || (!trace.cut_short && checksum(&bytes[at] + 8, length) != sum)) {
            why = "damaged: wrong length or checksum of the block at byte " + std::to_string(at);
            return false;
        }
        Cursor in(&bytes[at] + 8, &bytes[at] + 8 + length);
        bool whole = true;
        while (whole && !in.at_end()) whole = builder.record(in, why);
        if (why.empty() && !whole && !trace.cut_short) why = "half a record";
        if (!why.empty()) {
            why = "damaged: " + why + " in the block at byte " + std::to_string(at);
            return false;
        }
        at += 8 + length;
    }
    builder.finish();
    return true;
}

bool read_trace(const std::string &path, Trace &trace, std::string &why) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (file == nullptr) {
        why = std::strerror(errno);
        return false;
    }
    std::vector<unsigned char> bytes;
    unsigned char piece[64 * 1024];
    for (std::size_t got; (got = std::fread(piece, 1, sizeof piece, file.get())) > 0;)
        bytes.insert(bytes.end(), piece, piece + got);
    if (std::ferror(file.get()) != 0) {
        why = std::strerror(errno);
        return false;
    }
    return parse_trace(bytes, trace, why);
}

// ---- TraceWriter

bool TraceWriter::open(const char *path) {
    file_ = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file_ < 0) return false;
    last_ = 0;
    error_ = 0;
    used_ = header_size;
    if (!write_all(file_, magic, sizeof magic)) error_ = errno;
    return true;
}

void TraceWriter::write_block() {
    if (used_ == header_size) return;
    put32(buffer_, static_cast<std::uint32_t>(used_ - header_size));
    put32(buffer_ + 4, checksum(buffer_ + header_size, used_ - header_size));
    if (file_ >= 0 && error_ == 0 && !write_all(file_, buffer_, used_)) error_ = errno;
    used_ = header_size;
}

bool TraceWriter::close() {
    if (file_ < 0) return true;
    write_block();
    if (::close(file_) != 0 && error_ == 0) error_ = errno;
    file_ = -1;
    errno = error_;
    return error_ == 0;
}

}  // namespace jemalloc_lua::bench
