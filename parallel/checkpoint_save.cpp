#include "parallel/checkpoint_save.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/random_id.h"
#include "core/safetensors.h"
#include "parallel/checkpoint_folders.h"

namespace trireme {

namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;  // checked and written while in the cache

std::string shard_name(int rank, int ranks) {
    char name[64];
    std::snprintf(name, sizeof name, "shard-%05d-of-%05d.safetensors", rank, ranks);
    return name;
}

// On a network file system a folder that rank 0 made may appear late on other hosts.
void wait_for_folder(const std::string& folder) {
    std::error_code ignored;
    for (int i = 0; i < 50 && !std::filesystem::exists(folder, ignored); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

void check_piece(const CheckpointPiece& piece) {
    TRIREME_CHECK(piece.data != nullptr || piece.read, "a checkpoint piece to have data");
    TRIREME_CHECK(piece.box.size[0] > 0 && piece.box.size[1] > 0,
                  "a checkpoint piece of one element at least");
    TRIREME_CHECK(!piece.is_vector || (piece.global[0] == 1 && piece.box.size[0] == 1),
                  "a vector piece to have one row");
}

void add_piece(Manifest& manifest, const CheckpointPiece& from, ManifestPiece piece) {
    ManifestTensor fresh{from.tensor, from.dtype, from.global, from.is_vector, {}};
    ManifestTensor& tensor = manifest.tensors.emplace(from.tensor, std::move(fresh)).first->second;
    TRIREME_CHECK(tensor.dtype == from.dtype && tensor.global == from.global &&
                      tensor.is_vector == from.is_vector,
                  "all pieces of a checkpoint tensor to agree on type and shape");
    tensor.pieces.push_back(std::move(piece));
}

// Returns the checksum of what was written.
uint32_t write_piece(File& file, const CheckpointPiece& piece, size_t bytes) {
    if (piece.crc) {
        file.write_all(piece.data, bytes);
        return *piece.crc;
    }
    uint32_t crc = 0;
    if (!piece.data) {
        const size_t row_bytes = bytes / static_cast<size_t>(piece.box.size[0]);
        const int64_t rows_at_once =
            static_cast<int64_t>(std::max<size_t>(1, kChunkBytes / row_bytes));
        std::vector<char> rows;
        for (int64_t row = 0; row < piece.box.size[0]; row += rows_at_once) {
            const int64_t count = std::min(rows_at_once, piece.box.size[0] - row);
            rows.resize(static_cast<size_t>(count) * row_bytes);
            piece.read(row, count, rows.data());
            crc = crc32c(rows.data(), rows.size(), crc);
            file.write_all(rows.data(), rows.size());
        }
        return crc;
    }
    for (size_t done = 0; done < bytes; done += kChunkBytes) {
        const char* at = static_cast<const char*>(piece.data) + done;
        const size_t count = std::min(kChunkBytes, bytes - done);
        crc = crc32c(at, count, crc);
        file.write_all(at, count);
    }
    return crc;
}

// Writes this rank's file and returns the part of the manifest that describes it.
Manifest write_shard(const std::string& folder, const std::string& id, const CheckpointState& state,
                     int rank, int ranks, std::span<const CheckpointPiece> pieces) {
    Manifest part;
    part.id = id;
    if (pieces.empty()) return part;

    std::vector<SafetensorsEntry> entries;
    for (size_t i = 0; i < pieces.size(); ++i) {
        const CheckpointPiece& piece = pieces[i];
        check_piece(piece);
        SafetensorsEntry entry;
        entry.name = piece.tensor + "#" + std::to_string(i);
        entry.dtype = piece.dtype;
        entry.shape = {piece.box.size[0], piece.box.size[1]};
        if (piece.is_vector) entry.shape = {piece.box.size[1]};
        entries.push_back(std::move(entry));
    }
    const std::string header =
        make_safetensors_header(entries, {{"checkpoint_id", id},
                                          {"format", "trireme-checkpoint"},
                                          {"version", std::to_string(kCheckpointVersion)},
                                          {"run_id", state.run_id},
                                          {"step", std::to_string(state.step)},
                                          {"rank", std::to_string(rank)},
                                          {"ranks", std::to_string(ranks)},
                                          {"mesh", state.mesh.to_string()}});

    const std::string name = shard_name(rank, ranks);
    wait_for_folder(folder);
    const uint64_t free_before = free_bytes(folder);
    try {
        File file = File::create_new(folder + "/" + name);
        file.write_all(header.data(), header.size());
        for (size_t i = 0; i < pieces.size(); ++i) {
            const uint32_t crc = write_piece(file, pieces[i], entries[i].bytes());
            add_piece(part, pieces[i], {0, entries[i].name, pieces[i].box, crc});
        }
        file.sync();
        file.close();
    } catch (const Error& error) {
        if (error.code() != ExitCode::io) throw;
        throw Error(ExitCode::io, std::string(error.what()) + "; this process's file needs " +
                                      std::to_string(header.size() + entries.back().end) +
                                      " bytes, " + std::to_string(free_before) +
                                      " bytes were free before");
    }
    part.files.push_back(
        {name, header.size() + entries.back().end, crc32c(header.data(), header.size())});
    return part;
}

// Puts the parts of all ranks together and checks that they hold every tensor whole.
Manifest merge(const std::vector<std::string>& parts, const std::string& id,
               const CheckpointState& state) {
    Manifest manifest;
    manifest.id = id;
    manifest.state = state;
    for (const std::string& text : parts) {
        Manifest part = parse_manifest(text, "checkpoint pieces of a rank", true);
        const int64_t first_file = static_cast<int64_t>(manifest.files.size());
        manifest.files.insert(manifest.files.end(), part.files.begin(), part.files.end());
        for (auto& [name, tensor] : part.tensors) {
            CheckpointPiece like{name, tensor.global, tensor.is_vector, {}, tensor.dtype, nullptr};
            for (ManifestPiece& piece : tensor.pieces) {
                piece.file += first_file;
                add_piece(manifest, like, std::move(piece));
            }
        }
    }
    for (const auto& [name, tensor] : manifest.tensors) {
        const std::string fault = tiling_fault(tensor);
        if (!fault.empty()) {
            throw InternalError("internal error: checkpoint tensor '" + name + "': " + fault +
                                "; please report this");
        }
    }
    return manifest;
}

// Makes the finished temporary folder the checkpoint; an old one of that name gives way.
void publish(const std::string& temporary, const std::string& folder, const std::string& name) {
    const std::string target = folder + "/" + name;
    const std::string trash = folder + "/" + kTrashPrefix + name + "-" + random_id();
    std::error_code ignored;
    if (!std::filesystem::exists(std::filesystem::symlink_status(target, ignored))) {
        rename_path(temporary, target);
    } else if (exchange_paths(temporary, target)) {
        rename_path(temporary, trash);
    } else {
        rename_path(target, trash);
        try {
            rename_path(temporary, target);
        } catch (const Error&) {
            rename_path(trash, target);
            throw;
        }
    }
    sync_folder(folder);
    remove_tree(trash);
}

}  // namespace

uint64_t save_checkpoint(ControlGroup& group, const std::string& folder,
                         const CheckpointState& state, std::span<const CheckpointPiece> pieces) {
    const std::string name = step_folder_name(state.step);
    const bool first = group.rank() == 0;
    const std::string id = group.broadcast(random_id());
    const std::string temporary = folder + "/" + name + kTemporaryMark + id;
    const auto clean_up = [&] { remove_tree(temporary); };
    const char* what = "while saving a checkpoint";

    std::optional<FolderClaim> claim;
    group.run(
        what,
        [&] {
            if (!first) return;
            create_folders(temporary);
            claim.emplace(temporary);
        },
        clean_up);
    std::string part;
    uint64_t bytes = 0;
    group.run(
        what,
        [&] {
            const Manifest own =
                write_shard(temporary, id, state, group.rank(), group.size(), pieces);
            for (const ManifestFile& file : own.files) bytes += file.bytes;
            part = manifest_text(own);
        },
        clean_up);
    const std::vector<std::string> parts = group.gather(std::move(part));
    group.run(
        what,
        [&] {
            if (!first) return;
            const std::string text = manifest_text(merge(parts, id, state));
            File file = File::create_new(temporary + "/" + kManifestName);
            file.write_all(text.data(), text.size());
            file.sync();
            file.close();
            sync_folder(temporary);
            publish(temporary, folder, name);
        },
        clean_up);
    return bytes;
}

}  // namespace trireme
