#include "parallel/checkpoint_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/safetensors.h"
#include "parallel/box.h"

namespace trireme {

namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t{1} << 30;
constexpr uint64_t kChunkBytes = uint64_t{4} << 20;
constexpr int kMaxOpenFiles = 200;

[[noreturn]] void fail(const std::string& path, const std::string& what) {
    throw Error(ExitCode::bad_data, path + ": " + what);
}

void check_size(const std::string& folder, const ManifestFile& file) {
    const std::string path = folder + "/" + file.name;
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) fail(path, "this file of the checkpoint is missing");
    if (!S_ISREG(info.st_mode)) fail(path, "not a regular file");
    if (static_cast<uint64_t>(info.st_size) != file.bytes) {
        fail(path, "has " + std::to_string(info.st_size) + " bytes, the manifest says " +
                       std::to_string(file.bytes) + ": truncated or overwritten");
    }
}

// Copies rows [first, first + count) of a piece, of which `rows` holds the bytes, to the part of
// `to` (the contents of `box`) that they cover.
void copy_rows(const char* rows, const Box& piece, int64_t first, int64_t count, const Box& box,
               size_t element, char* to) {
    const Box chunk{{piece.begin[0] + first, piece.begin[1]}, {count, piece.size[1]}};
    const Box common = intersect(chunk, box);
    const size_t bytes = static_cast<size_t>(common.size[1]) * element;
    for (int64_t r = 0; r < common.size[0]; ++r) {
        const int64_t row = common.begin[0] + r;
        const int64_t from =
            (row - chunk.begin[0]) * chunk.size[1] + common.begin[1] - chunk.begin[1];
        const int64_t into = (row - box.begin[0]) * box.size[1] + common.begin[1] - box.begin[1];
        std::memcpy(to + static_cast<size_t>(into) * element,
                    rows + static_cast<size_t>(from) * element, bytes);
    }
}

}  // namespace

struct CheckpointReader::Shard {
    std::optional<File> file;  // closed again when many are open
    std::string path;
    SafetensorsHeader header;
    struct Entry {
        const SafetensorsEntry* at = nullptr;
        bool checked = false;  // its data matched the checksum
    };
    std::unordered_map<std::string, Entry> entries;
};

bool is_damage(const Error& error) {
    if (dynamic_cast<const CheckpointMismatch*>(&error)) return false;
    return error.code() == ExitCode::bad_data || error.code() == ExitCode::io;
}

CheckpointReader::CheckpointReader(const std::string& step_folder) : folder_(step_folder) {
    const std::string path = folder_ + "/" + kManifestName;
    manifest_ = parse_manifest(read_file(path, kMaxManifestBytes, Links::refuse), path);
    for (const ManifestFile& file : manifest_.files) check_size(folder_, file);
    shards_.resize(manifest_.files.size());
}

CheckpointReader::~CheckpointReader() = default;

std::vector<std::string> CheckpointReader::names() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : manifest_.tensors) names.push_back(name);
    return names;
}

const ManifestTensor& CheckpointReader::tensor(const std::string& name) const {
    const auto found = manifest_.tensors.find(name);
    if (found == manifest_.tensors.end()) {
        throw CheckpointMismatch(folder_ + ": holds no tensor '" + name +
                                 "': a checkpoint of another model, or of one saved without it");
    }
    return found->second;
}

void CheckpointReader::expect_shape(const std::string& name,
                                    const std::array<int64_t, 2>& global) const {
    const ManifestTensor& found = tensor(name);
    if (found.global == global) return;
    ManifestTensor expected = found;
    expected.global = global;
    expected.is_vector = found.is_vector && global[0] == 1;
    throw CheckpointMismatch(folder_ + ": a checkpoint of another model: tensor '" + name +
                             "' has shape " + found.shape_text() + ", the configuration asks for " +
                             expected.shape_text() + "; use the configuration that wrote it");
}

File& CheckpointReader::open_file(Shard& shard) {
    if (!shard.file) {
        if (open_files_ >= kMaxOpenFiles) {
            for (auto& other : shards_) {
                if (other != nullptr) other->file.reset();
            }
            open_files_ = 0;
        }
        shard.file = File::open(shard.path, Links::refuse);
        ++open_files_;
    }
    return *shard.file;
}

CheckpointReader::Shard& CheckpointReader::shard(int64_t index) {
    std::unique_ptr<Shard>& slot = shards_[static_cast<size_t>(index)];
    if (slot != nullptr) return *slot;

    const ManifestFile& listed = manifest_.files[static_cast<size_t>(index)];
    auto fresh = std::make_unique<Shard>();
    fresh->path = folder_ + "/" + listed.name;
    check_size(folder_, listed);
    const File& file = open_file(*fresh);
    fresh->header = read_safetensors_header(file);
    std::string header(fresh->header.data_offset, '\0');
    file.read_all(header.data(), header.size(), 0);
    if (crc32c(header.data(), header.size()) != listed.header_crc) {
        fail(fresh->path, "the checksum of its header does not match: damaged");
    }
    const auto id = fresh->header.metadata.find("checkpoint_id");
    if (id == fresh->header.metadata.end() || id->second != manifest_.id) {
        fail(fresh->path, "belongs to another checkpoint than the manifest beside it");
    }
    for (const SafetensorsEntry& entry : fresh->header.entries) {
        fresh->entries[entry.name].at = &entry;
    }
    slot = std::move(fresh);
    return *slot;
}

void CheckpointReader::read_piece(const ManifestTensor& tensor, const ManifestPiece& piece,
                                  const Box& box, void* to) {
    Shard& source = shard(piece.file);
    const std::string where =
        source.path + ", tensor '" + tensor.name + "', piece " + box_text(piece.box);
    const auto found = source.entries.find(piece.entry);
    if (found == source.entries.end()) fail(where, "the file holds no such entry");
    Shard::Entry& entry = found->second;
    std::vector<int64_t> shape{piece.box.size[0], piece.box.size[1]};
    if (tensor.is_vector) shape = {piece.box.size[1]};
    if (entry.at->dtype != tensor.dtype || entry.at->shape != shape) {
        fail(where, "the entry's type or shape is not what the manifest says");
    }

    const File& file = open_file(source);
    // The first time the whole piece is read, for its checksum; later only rows that are needed.
    const Box common = intersect(piece.box, box);
    const int64_t first = entry.checked ? common.begin[0] - piece.box.begin[0] : 0;
    const int64_t rows = entry.checked ? common.size[0] : piece.box.size[0];
    const size_t element = size_of(tensor.dtype);
    const uint64_t row_bytes = static_cast<uint64_t>(piece.box.size[1]) * element;
    const int64_t chunk_rows = static_cast<int64_t>(std::max<uint64_t>(1, kChunkBytes / row_bytes));
    std::vector<char> chunk(static_cast<size_t>(std::min(chunk_rows, rows)) * row_bytes);
    uint32_t crc = 0;
    for (int64_t done = 0; done < rows; done += chunk_rows) {
        const int64_t row = first + done;
        const int64_t count = std::min(chunk_rows, rows - done);
        const uint64_t bytes = static_cast<uint64_t>(count) * row_bytes;
        read_safetensors_bytes(file, source.header, *entry.at,
                               static_cast<uint64_t>(row) * row_bytes, bytes, chunk.data());
        if (!entry.checked) crc = crc32c(chunk.data(), bytes, crc);
        copy_rows(chunk.data(), piece.box, row, count, box, element, static_cast<char*>(to));
    }
    if (!entry.checked && crc != piece.crc) {
        fail(where, "the checksum does not match: the file is damaged; use another checkpoint");
    }
    entry.checked = true;
}

void CheckpointReader::read(const std::string& name, const Box& box, DType expected, void* to) {
    const ManifestTensor& from = tensor(name);
    TRIREME_CHECK(contains({{0, 0}, from.global}, box), "a box inside the checkpoint's tensor");
    if (from.dtype != expected) {
        throw CheckpointMismatch(folder_ + ": tensor '" + name + "' has element type " +
                                 std::string(name_of(from.dtype)) + ", expected " +
                                 std::string(name_of(expected)));
    }
    for (const ManifestPiece& piece : from.pieces) {
        if (intersect(piece.box, box).elements() > 0) read_piece(from, piece, box, to);
    }
}

std::vector<std::string> CheckpointReader::verify(
    const std::function<void(uint64_t done, uint64_t total)>& progress) {
    std::vector<std::string> faults;
    const auto attempt = [&](const auto& work) {
        try {
            work();
        } catch (const Error& error) {
            faults.push_back(error.what());
        }
    };
    for (size_t i = 0; i < shards_.size(); ++i) {
        if (shards_[i] != nullptr && shards_[i]->file) --open_files_;
        shards_[i].reset();
        attempt([&] { shard(static_cast<int64_t>(i)); });
    }
    uint64_t done = 0;
    uint64_t total = 0;
    for (const auto& [name, tensor] : manifest_.tensors) total += tensor.bytes();
    for (const auto& [name, tensor] : manifest_.tensors) {
        for (const ManifestPiece& piece : tensor.pieces) {
            // A shard that could not be opened has been reported already.
            if (shards_[static_cast<size_t>(piece.file)] != nullptr) {
                attempt([&, &whole = tensor] { read_piece(whole, piece, Box{}, nullptr); });
            }
            done += static_cast<uint64_t>(piece.box.elements()) * size_of(tensor.dtype);
            if (progress) progress(done, total);
        }
    }
    return faults;
}

}  // namespace trireme
