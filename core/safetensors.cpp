#include "core/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/strict_json.h"

namespace trireme {

using nlohmann::json;

namespace {

constexpr uint64_t kPrefixBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr const char* kMetadata = "__metadata__";

static_assert(std::endian::native == std::endian::little, "the format stores little-endian values");

[[noreturn]] void fail(const File& file, const std::string& what) {
    throw Error(ExitCode::bad_data, file.path() + ": " + what);
}

// False when the product does not fit.
bool byte_size(const std::vector<int64_t>& shape, DType dtype, uint64_t& bytes) {
    bytes = 1;
    for (const int64_t size : shape) {
        if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) return false;
    }
    return !__builtin_mul_overflow(bytes, uint64_t{size_of(dtype)}, &bytes);
}

std::map<std::string, std::string> parse_metadata(const json& object, const File& file) {
    if (!object.is_object()) fail(file, "__metadata__ is not an object");
    std::map<std::string, std::string> metadata;
    for (const auto& [key, value] : object.items()) {
        if (!value.is_string()) fail(file, "metadata '" + key + "' is not a string");
        metadata[key] = value.get<std::string>();
    }
    return metadata;
}

SafetensorsEntry parse_entry(const std::string& name, const json& object, const File& file) {
    const std::string where = file.path() + ", tensor '" + name + "'";
    SafetensorsEntry entry;
    entry.name = name;
    const std::string& type = string_member(object, "dtype", where);
    const std::optional<DType> dtype = dtype_named(type);
    if (!dtype) {
        throw Error(ExitCode::bad_data, where + ": element type " + type.substr(0, 40) +
                                            " is not supported; expected F32, BF16, F16, F64, "
                                            "I32, I64, U8 or BOOL");
    }
    entry.dtype = *dtype;
    const json& shape = member(object, "shape", where);
    if (!shape.is_array()) throw Error(ExitCode::bad_data, where + ": shape is not a list");
    for (const json& size : shape) entry.shape.push_back(whole_number(size, where, "a size"));
    const json& offsets = member(object, "data_offsets", where);
    if (!offsets.is_array() || offsets.size() != 2) {
        throw Error(ExitCode::bad_data, where + ": data_offsets is not a pair");
    }
    entry.begin = static_cast<uint64_t>(whole_number(offsets[0], where, "the begin offset"));
    entry.end = static_cast<uint64_t>(whole_number(offsets[1], where, "the end offset"));
    uint64_t expected = 0;
    if (!byte_size(entry.shape, entry.dtype, expected)) {
        throw Error(ExitCode::bad_data, where + ": the shape is too large");
    }
    if (entry.end < entry.begin || entry.bytes() != expected) {
        throw Error(ExitCode::bad_data, where + ": data_offsets " + std::to_string(entry.begin) +
                                            " to " + std::to_string(entry.end) +
                                            " do not span the " + std::to_string(expected) +
                                            " bytes of its shape");
    }
    return entry;
}

// Entries must follow each other without gap or overlap and end with the file.
void check_layout(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes,
                  const File& file) {
    uint64_t expected = 0;
    for (const SafetensorsEntry& entry : entries) {
        if (entry.begin != expected) {
            fail(file, "tensor '" + entry.name + "' begins at data offset " +
                           std::to_string(entry.begin) + ", expected " + std::to_string(expected));
        }
        expected = entry.end;
    }
    if (expected != data_bytes) {
        fail(file, "the tensors have " + std::to_string(expected) + " bytes, but " +
                       std::to_string(data_bytes) + " follow the header: the file is " +
                       (expected > data_bytes ? "truncated" : "too long"));
    }
}

}  // namespace

const SafetensorsEntry* SafetensorsHeader::find(const std::string& name) const {
    const auto found = std::find_if(entries.begin(), entries.end(),
                                    [&](const SafetensorsEntry& e) { return e.name == name; });
    return found == entries.end() ? nullptr : &*found;
}

std::optional<DType> dtype_named(std::string_view name) {
    for (const DType type : {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8,
                             DType::f16, DType::boolean}) {
        if (name_of(type) == name) return type;
    }
    return std::nullopt;
}

std::string make_safetensors_header(std::vector<SafetensorsEntry>& entries,
                                    const std::map<std::string, std::string>& metadata) {
    std::string text = "{";
    if (!metadata.empty()) text += json(kMetadata).dump() + ":" + json(metadata).dump();
    std::set<std::string> names{kMetadata};
    uint64_t offset = 0;
    for (SafetensorsEntry& entry : entries) {
        const bool is_new = names.insert(entry.name).second;
        TRIREME_CHECK(is_new, "safetensors entry names to be unique");
        for (const int64_t size : entry.shape) TRIREME_CHECK(size >= 0, "sizes of zero or more");
        uint64_t bytes = 0;
        const bool fits = byte_size(entry.shape, entry.dtype, bytes);
        TRIREME_CHECK(fits, "a tensor below 2^64 bytes");
        entry.begin = offset;
        const bool overflows = __builtin_add_overflow(offset, bytes, &offset);
        TRIREME_CHECK(!overflows, "a file below 2^64 bytes");
        entry.end = offset;
        if (text.size() > 1) text += ",";
        text += json(entry.name).dump() + ":{\"dtype\":\"" + std::string(name_of(entry.dtype)) +
                "\",\"shape\":" + json(entry.shape).dump() + ",\"data_offsets\":[" +
                std::to_string(entry.begin) + "," + std::to_string(entry.end) + "]}";
    }
    text += "}";
    text.resize((text.size() + 7) / 8 * 8, ' ');
    TRIREME_CHECK(text.size() <= kMaxHeaderBytes, "a safetensors header of at most 100 MB");
    const uint64_t length = text.size();
    std::string bytes(kPrefixBytes, '\0');
    std::memcpy(bytes.data(), &length, kPrefixBytes);
    return bytes + text;
}

SafetensorsHeader read_safetensors_header(const File& file) {
    const uint64_t file_bytes = file.size();
    if (file_bytes < kPrefixBytes) {
        fail(file, "has " + std::to_string(file_bytes) +
                       " bytes, too few for a safetensors file: it is truncated");
    }
    uint64_t length = 0;
    file.read_all(&length, kPrefixBytes, 0);
    if (length > kMaxHeaderBytes || length > file_bytes - kPrefixBytes) {
        fail(file, "the header length at offset 0 is " + std::to_string(length) +
                       ", expected at most " +
                       std::to_string(std::min(kMaxHeaderBytes, file_bytes - kPrefixBytes)) +
                       ": not a safetensors file, or a truncated one");
    }
    std::string text(length, '\0');
    file.read_all(text.data(), text.size(), kPrefixBytes);
    if (text.empty() || text[0] != '{') fail(file, "the header at offset 8 does not begin with {");

    const json object = parse_strict_json(text, file.path() + ", header", 4);
    SafetensorsHeader header;
    header.data_offset = kPrefixBytes + length;
    header.data_bytes = file_bytes - header.data_offset;
    for (const auto& [name, value] : object.items()) {
        if (name == kMetadata) {
            header.metadata = parse_metadata(value, file);
        } else {
            header.entries.push_back(parse_entry(name, value, file));
        }
    }
    std::sort(header.entries.begin(), header.entries.end(),
              [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                  return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
              });
    check_layout(header.entries, header.data_bytes, file);
    return header;
}

SafetensorsHeader read_safetensors_header(const std::string& path) {
    return read_safetensors_header(File::open(path));
}

void read_safetensors_bytes(const File& file, const SafetensorsHeader& header,
                            const SafetensorsEntry& entry, uint64_t begin, uint64_t size,
                            void* to) {
    TRIREME_CHECK(begin <= entry.bytes() && size <= entry.bytes() - begin,
                  "a range inside the safetensors entry");
    file.read_all(to, size, header.data_offset + entry.begin + begin);
}

void read_safetensors_bytes(const std::string& path, const SafetensorsHeader& header,
                            const SafetensorsEntry& entry, uint64_t begin, uint64_t size,
                            void* to) {
    read_safetensors_bytes(File::open(path), header, entry, begin, size, to);
}

}  // namespace trireme
