#include "data/prepare_progress.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file_io.h"
#include "core/strict_json.h"
#include "data/note_file.h"

namespace trireme {
namespace {

using nlohmann::json;

json json_of(const PrepareProgress& progress) {
    json parts = json::array();
    for (const PrepareProgress::PartState& part : progress.parts) {
        parts.push_back({{"has_files", part.has_files},
                         {"documents", part.writer.documents},
                         {"tokens", part.writer.tokens},
                         {"checksum", part.writer.checksum},
                         {"largest_id", part.writer.largest_id + 1},
                         {"text_bytes", part.counts.bytes}});
    }
    const DocumentPosition& at = progress.position;
    return {{"fingerprint", progress.fingerprint},
            {"file", at.file},
            {"offset", at.offset},
            {"checksum", at.checksum},
            {"line", at.line},
            {"joined", at.joined},
            {"held_out", at.held_out},
            {"skipped_lines", progress.skipped_lines},
            {"parts", parts}};
}

PrepareProgress progress_of(const json& file, const std::string& path) {
    const auto number = [&](const json& object, const char* key) {
        return whole_number(member(object, key, path), path, key);
    };
    const auto flag = [&](const json& object, const char* key) {
        return member(object, key, path) == json(true);
    };
    PrepareProgress progress;
    progress.fingerprint = string_member(file, "fingerprint", path);
    progress.position = {number(file, "file"),
                         number(file, "offset"),
                         static_cast<uint32_t>(number(file, "checksum")),
                         number(file, "line"),
                         number(file, "joined"),
                         flag(file, "held_out")};
    progress.skipped_lines = number(file, "skipped_lines");
    for (const json& part : member(file, "parts", path)) {
        PrepareProgress::PartState state;
        state.has_files = flag(part, "has_files");
        state.writer = {number(part, "documents"), number(part, "tokens"),
                        static_cast<uint32_t>(number(part, "checksum")),
                        static_cast<int32_t>(number(part, "largest_id") - 1)};
        state.counts = {state.writer.documents, state.writer.tokens, number(part, "text_bytes")};
        progress.parts.push_back(state);
    }
    return progress;
}

bool has_bytes(const std::string& path, int64_t bytes) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    return !error && static_cast<int64_t>(size) >= bytes;
}

}  // namespace

std::string progress_path(const std::string& output) {
    return output + ".partial";
}

void write_progress(const std::string& output, const PrepareProgress& progress) {
    write_note(progress_path(output), json_of(progress).dump());
}

void remove_progress(const std::string& output) {
    const std::string path = progress_path(output);
    if (::unlink(path.c_str()) == 0) {
        sync_folder(folder_of(path));
    } else if (errno != ENOENT && errno != EISDIR) {
        throw Error(ExitCode::io, "cannot remove " + path + ": " + std::strerror(errno));
    }
}

std::optional<PrepareProgress> read_progress(const std::string& output,
                                             const std::string& fingerprint,
                                             const std::vector<std::string>& prefixes,
                                             TokenType type) {
    const std::string path = progress_path(output);
    const std::optional<std::string> note = read_note(path);
    if (!note) return std::nullopt;
    PrepareProgress progress;
    try {
        progress = progress_of(parse_strict_json(*note, path, 4), path);
    } catch (const Error&) {
        return std::nullopt;
    }
    if (progress.fingerprint != fingerprint || progress.parts.size() != prefixes.size()) {
        return std::nullopt;
    }
    for (size_t i = 0; i < prefixes.size(); ++i) {
        const PrepareProgress::PartState& part = progress.parts[i];
        if (!part.has_files) continue;
        if (!has_bytes(prefixes[i] + ".bin.partial", part.writer.tokens * size_of(type)) ||
            !has_bytes(prefixes[i] + ".lengths.partial",
                       part.writer.documents * static_cast<int64_t>(sizeof(int32_t)))) {
            return std::nullopt;
        }
    }
    return progress;
}

}  // namespace trireme
