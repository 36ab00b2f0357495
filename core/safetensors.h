#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace trireme {

struct SafetensorsEntry {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    uint64_t begin = 0;  // bytes from the start of the data section
    uint64_t end = 0;
};

// Header of a safetensors file: https://github.com/huggingface/safetensors#format
struct SafetensorsHeader {
    std::map<std::string, std::string> metadata;
    std::vector<SafetensorsEntry> entries;  // in the order of their data
    uint64_t data_offset = 0;               // of the data section in the file
    uint64_t data_bytes = 0;

    const SafetensorsEntry* find(const std::string& name) const;  // null when absent
};

// Lays the entries out back to back in the given order (name, dtype, shape are read; begin and end
// are set) and returns header bytes, padded to a multiple of 8, length prefix included.
std::string make_safetensors_header(std::vector<SafetensorsEntry>& entries,
                                    const std::map<std::string, std::string>& metadata);

// Parses and checks header bytes against the file's size; the rules of the format are enforced
// (no holes, no overlap, checked products, no duplicate names, 100 MB limit). Throws Error
// (bad_data) naming the file, the tensor and the offset. Never trusts a size before it is checked.
SafetensorsHeader read_safetensors_header(const std::string& path);

// Reads bytes [begin, begin + size) of an entry. Throws Error (bad_data on a short file, io else).
void read_safetensors_bytes(const std::string& path, const SafetensorsHeader& header,
                            const SafetensorsEntry& entry, uint64_t begin, uint64_t size,
                            void* to);

}  // namespace trireme
