#include "data/note_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/strict_json.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

}  // namespace

void write_note(const std::string& path, const std::string& content) {
    const uint32_t checksum = crc32c(content.data(), content.size());
    replace_file(path, json{{"checksum", checksum}, {"content", content}}.dump());
}

std::optional<std::string> read_note(const std::string& path) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
    try {
        const json file = parse_strict_json(read_file(path, kMaxBytes), path, 4);
        const std::string& content = string_member(file, "content", path);
        if (member(file, "checksum", path) == crc32c(content.data(), content.size())) {
            return content;
        }
    } catch (const Error&) {
        // No note of ours.
    }
    return std::nullopt;
}

}  // namespace trireme
