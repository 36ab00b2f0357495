#include "data/finished_datasets.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/strict_json.h"
#include "data/describe.h"
#include "data/locked_file.h"
#include "data/note_file.h"
#include "data/output_file.h"
#include "data/prepare_progress.h"

namespace trireme {
namespace {

using nlohmann::json;

struct FoundFile {
    std::string path;  // its own name
    bool is_partial = false;
};

std::optional<FoundFile> find(const std::string& path, const DatasetManifest::FileContent& content,
                              const std::function<void(int64_t)>& on_read) {
    for (const bool is_partial : {true, false}) {
        const std::string name = path + (is_partial ? ".partial" : "");
        std::error_code error;
        if (!std::filesystem::is_regular_file(name, error)) continue;
        if (difference(name, content, on_read).empty()) {
            return FoundFile{path, is_partial};
        }
    }
    return std::nullopt;
}

// Of the files that a writer would hold, those that there are.
std::vector<LockedFile> lock_partial_files(const std::string& prefix) {
    std::vector<LockedFile> held;
    for (const char* ending : {".bin", ".idx", ".lengths"}) {
        auto file = LockedFile::find(prefix + ending + ".partial");
        if (file) held.push_back(std::move(*file));
    }
    return held;
}

void give_name(const FoundFile& found, std::vector<LockedFile>& held) {
    if (!found.is_partial) return;
    const auto file = std::find_if(held.begin(), held.end(), [&](const LockedFile& candidate) {
        return candidate.path() == found.path + ".partial";
    });
    TRIREME_CHECK(file != held.end(), "a partial file that is held");
    file->rename_to(found.path);
}

}  // namespace

void write_finished(const std::string& output, const FinishedDatasets& finished) {
    json parts = json::array();
    for (const DatasetManifest& part : finished.parts) parts.push_back(manifest_text(part));
    write_note(progress_path(output),
               json{{"fingerprint", finished.fingerprint}, {"finished", parts}}.dump());
}

std::optional<FinishedDatasets> read_finished(const std::string& output,
                                              const std::string& fingerprint, size_t n_parts) {
    const std::string path = progress_path(output);
    const std::optional<std::string> note = read_note(path);
    if (!note) return std::nullopt;
    FinishedDatasets finished;
    try {
        const json content = parse_strict_json(*note, path, 4);
        finished.fingerprint = string_member(content, "fingerprint", path);
        for (const json& part : member(content, "finished", path)) {
            if (!part.is_string()) return std::nullopt;
            const auto manifest = parse_manifest_text(part.get<std::string>(), path);
            if (!manifest) return std::nullopt;
            finished.parts.push_back(*manifest);
        }
    } catch (const Error&) {
        return std::nullopt;
    }
    if (finished.fingerprint != fingerprint || finished.parts.size() != n_parts) {
        return std::nullopt;
    }
    return finished;
}

std::optional<FinishedDatasets> publish_finished(const std::string& output,
                                                 const std::string& fingerprint,
                                                 const std::vector<std::string>& prefixes,
                                                 const CheckProgress& progress) {
    const size_t n = prefixes.size();
    // The note of a run that is still at work is not to be held.
    if (!read_finished(output, fingerprint, n)) return std::nullopt;
    const std::optional<LockedFile> note = LockedFile::find(progress_path(output));
    std::vector<std::vector<LockedFile>> held;
    for (const std::string& prefix : prefixes) held.push_back(lock_partial_files(prefix));
    // From here on nobody else changes these files; somebody may have until now.
    const std::optional<FinishedDatasets> finished = read_finished(output, fingerprint, n);
    if (!note || !finished) return std::nullopt;
    int64_t done = 0, total = 0;
    for (const DatasetManifest& part : finished->parts) total += part.bin.bytes + part.idx.bytes;
    const auto check = [&](const std::string& path, const DatasetManifest::FileContent& content) {
        auto found = find(path, content, [&](int64_t bytes) {
            if (progress) progress(done + bytes, total);
        });
        done += content.bytes;
        return found;
    };
    std::vector<FoundFile> bins, indices;
    for (size_t i = 0; i < n; ++i) {
        const auto bin = check(prefixes[i] + ".bin", finished->parts[i].bin);
        const auto idx = check(prefixes[i] + ".idx", finished->parts[i].idx);
        if (!bin || !idx) return std::nullopt;
        bins.push_back(*bin);
        indices.push_back(*idx);
    }
    for (size_t i = 0; i < n; ++i) {
        // Without its index an old .bin is no dataset, so no crash can pair old and new files.
        remove_former(manifest_path(prefixes[i]));
        if (indices[i].is_partial) remove_former(prefixes[i] + ".idx");
        give_name(bins[i], held[i]);
        give_name(indices[i], held[i]);
        write_manifest(prefixes[i], finished->parts[i]);
        ::unlink((prefixes[i] + ".lengths.partial").c_str());
    }
    ::unlink(progress_path(output).c_str());
    return finished;
}

}  // namespace trireme
