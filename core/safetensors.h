#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/file_io.h"

namespace trireme {

struct SafetensorsEntry {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    uint64_t begin = 0;  // bytes from the start of the data section
    uint64_t end = 0;

    uint64_t bytes() const { return end - begin; }
};

// Header of a safetensors file: https://github.com/huggingface/safetensors#format
struct SafetensorsHeader {
    std::map<std::string, std::string> metadata;
    std::vector<SafetensorsEntry> entries;  // in the order of their data
    uint64_t data_offset = 0;               // of the data section in the file
    uint64_t data_bytes = 0;

    const SafetensorsEntry* find(const std::string& name) const;  // null when absent
};

// The type with this name in headers ("F32", "BF16", ...), if it is one that this program holds.
std::optional<DType> dtype_named(std::string_view name);

// Lays the entries out back to back in the given order (name, dtype, shape are read; begin and end
// are set) and returns header bytes, padded to a multiple of 8, length prefix included. Entries in
// descending order of element size stay aligned. Names must be unique (else InternalError).
std::string make_safetensors_header(std::vector<SafetensorsEntry>& entries,
                                    const std::map<std::string, std::string>& metadata);

// Reads the header and checks it against the file's size; the rules of the format are enforced
// (no holes, no overlap, checked products, no duplicate names, 100 MB limit). Throws Error
// (bad_data) naming the file, the tensor and the offset; also for element types that DType lacks.
// Never trusts a size before it is checked.
SafetensorsHeader read_safetensors_header(const File& file);
SafetensorsHeader read_safetensors_header(const std::string& path);

// Reads bytes [begin, begin + size) of an entry. Throws Error (bad_data on a short file, io else).
void read_safetensors_bytes(const File& file, const SafetensorsHeader& header,
                            const SafetensorsEntry& entry, uint64_t begin, uint64_t size, void* to);
void read_safetensors_bytes(const std::string& path, const SafetensorsHeader& header,
                            const SafetensorsEntry& entry, uint64_t begin, uint64_t size, void* to);

}  // namespace trireme
