#include "tests/app/event_reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "tests/app/process_support.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

// By the definition, a bit at a time, and changed as the format asks for.
uint32_t masked_checksum(const std::string& bytes) {
    uint32_t sum = ~0u;
    for (const char c : bytes) {
        sum ^= static_cast<unsigned char>(c);
        for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? 0x82f63b78u : 0u);
    }
    sum = ~sum;
    return (sum >> 15 | sum << 17) + 0xa282ead8u;
}

class Cursor {
public:
    explicit Cursor(const std::string& bytes) : bytes_(bytes) {}

    bool at_end() const { return at_ == bytes_.size(); }
    std::string take(size_t count) {
        if (count > bytes_.size() - at_) throw std::runtime_error("ends too early");
        at_ += count;
        return bytes_.substr(at_ - count, count);
    }
    template <typename Value>
    Value plain() {
        Value value;
        std::memcpy(&value, take(sizeof value).data(), sizeof value);
        return value;
    }
    uint64_t varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            const auto byte = plain<unsigned char>();
            value |= static_cast<uint64_t>(byte & 0x7f) << shift;
            if (byte < 0x80) return value;
        }
        throw std::runtime_error("a number without an end");
    }

private:
    const std::string& bytes_;
    size_t at_ = 0;
};

struct Field {
    int number = 0;
    uint64_t whole = 0;
    std::string bytes;  // of strings, messages and fixed-size numbers
};

std::vector<Field> fields_of(const std::string& message) {
    std::vector<Field> fields;
    Cursor cursor(message);
    while (!cursor.at_end()) {
        const uint64_t key = cursor.varint();
        Field field{.number = static_cast<int>(key >> 3), .whole = 0, .bytes = {}};
        switch (key & 7) {
            case 0:
                field.whole = cursor.varint();
                break;
            case 1:
                field.bytes = cursor.take(8);
                break;
            case 2:
                field.bytes = cursor.take(cursor.varint());
                break;
            case 5:
                field.bytes = cursor.take(4);
                break;
            default:
                throw std::runtime_error("unknown type of field");
        }
        fields.push_back(std::move(field));
    }
    return fields;
}

void read_value(const std::string& message, ReadEvent& event) {
    std::string tag, text;
    float number = 0;
    bool is_number = false;
    for (const Field& field : fields_of(message)) {
        if (field.number == 1) tag = field.bytes;
        if (field.number == 2) {
            number = Cursor(field.bytes).plain<float>();
            is_number = true;
        }
        if (field.number != 8) continue;
        for (const Field& part : fields_of(field.bytes)) {
            if (part.number == 8) text = part.bytes;
        }
    }
    if (is_number)
        event.scalars[tag] = number;
    else
        event.texts[tag] = text;
}

ReadEvent read_event(const std::string& message) {
    ReadEvent event;
    for (const Field& field : fields_of(message)) {
        if (field.number == 1) event.wall_time = Cursor(field.bytes).plain<double>();
        if (field.number == 2) event.step = static_cast<int64_t>(field.whole);
        if (field.number == 3) event.file_version = field.bytes;
        if (field.number == 5) {
            for (const Field& value : fields_of(field.bytes)) read_value(value.bytes, event);
        }
        if (field.number == 7) event.starts_session = fields_of(field.bytes).at(0).whole == 1;
    }
    return event;
}

}  // namespace

std::vector<ReadEvent> read_event_file(const std::string& path) {
    const std::string content = read_text(path);
    std::vector<ReadEvent> events;
    Cursor cursor(content);
    while (!cursor.at_end()) {
        const std::string length = cursor.take(8);
        if (cursor.plain<uint32_t>() != masked_checksum(length)) {
            throw std::runtime_error("checksum of a length");
        }
        const std::string message = cursor.take(Cursor(length).plain<uint64_t>());
        if (cursor.plain<uint32_t>() != masked_checksum(message)) {
            throw std::runtime_error("checksum of a message");
        }
        events.push_back(read_event(message));
    }
    return events;
}

std::vector<std::string> event_files(const std::string& folder) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
}

std::map<std::pair<std::string, int64_t>, float> shown_scalars(const std::string& folder) {
    std::map<std::pair<std::string, int64_t>, float> shown;
    for (const std::string& file : event_files(folder)) {
        for (const ReadEvent& event : read_event_file(file)) {
            if (event.starts_session) {
                std::erase_if(shown, [&](const auto& p) { return p.first.second >= event.step; });
            }
            for (const auto& [tag, value] : event.scalars) shown[{tag, event.step}] = value;
        }
    }
    return shown;
}

}  // namespace trireme::test
