#include "app/event_record.h"

#include <bit>

#include "core/crc32c.h"

namespace trireme {

namespace {

constexpr uint64_t kSessionStart = 1;
constexpr uint64_t kStringType = 7;

// Fields of one protocol buffers message, in the order of the calls.
class Message {
public:
    void whole(int field, uint64_t value) {
        key(field, 0);
        varint(value);
    }
    void real(int field, double value) {
        key(field, 1);
        little_endian(std::bit_cast<uint64_t>(value), 8);
    }
    void real(int field, float value) {
        key(field, 5);
        little_endian(std::bit_cast<uint32_t>(value), 4);
    }
    void text(int field, std::string_view value) {
        key(field, 2);
        varint(value.size());
        bytes_ += value;
    }
    void message(int field, const Message& value) { text(field, value.bytes_); }

    void little_endian(uint64_t value, int bytes) {
        for (int i = 0; i < bytes; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xff);
    }

    std::string bytes_;

private:
    void key(int field, int type) { varint(static_cast<uint64_t>(field) << 3 | type); }
    void varint(uint64_t value) {
        for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
        bytes_ += static_cast<char>(value);
    }
};

Message event(double wall_time, int64_t step) {
    Message event;
    event.real(1, wall_time);
    event.whole(2, static_cast<uint64_t>(step));
    return event;
}

// The format stores checksums changed, since a checksum of data that holds its own checksum would
// say little.
uint32_t masked_checksum(std::string_view bytes) {
    return std::rotr(crc32c(bytes.data(), bytes.size()), 15) + 0xa282ead8u;
}

}  // namespace

std::string version_event(double wall_time) {
    Message source;
    source.text(1, "trireme");
    Message event;
    event.real(1, wall_time);
    event.text(3, "brain.Event:2");
    event.message(10, source);
    return event.bytes_;
}

std::string start_event(double wall_time, int64_t step) {
    Message session;
    session.whole(1, kSessionStart);
    Message start = event(wall_time, step);
    start.message(7, session);
    return start.bytes_;
}

std::string scalars_event(double wall_time, int64_t step, std::span<const EventScalar> scalars) {
    Message summary;
    for (const EventScalar& scalar : scalars) {
        Message value;
        value.text(1, scalar.tag);
        value.real(2, static_cast<float>(scalar.value));
        summary.message(1, value);
    }
    Message all = event(wall_time, step);
    all.message(5, summary);
    return all.bytes_;
}

std::string text_event(double wall_time, int64_t step, std::string_view tag,
                       std::string_view text) {
    Message plugin;
    plugin.text(1, "text");
    Message metadata;
    metadata.message(1, plugin);
    Message one;
    one.whole(1, 1);
    Message shape;
    shape.message(2, one);
    Message tensor;
    tensor.whole(1, kStringType);
    tensor.message(2, shape);
    tensor.text(8, text);
    Message value;
    value.text(1, tag);
    value.message(8, tensor);
    value.message(9, metadata);
    Message summary;
    summary.message(1, value);
    Message all = event(wall_time, step);
    all.message(5, summary);
    return all.bytes_;
}

std::string framed_event(std::string_view event) {
    Message frame;
    frame.little_endian(event.size(), 8);
    frame.little_endian(masked_checksum(frame.bytes_), 4);
    frame.bytes_ += event;
    frame.little_endian(masked_checksum(event), 4);
    return frame.bytes_;
}

}  // namespace trireme
