#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "parallel/mesh.h"
#include "parallel/parameter.h"

namespace trireme {

// What a checkpoint holds beside tensors.
struct CheckpointState {
    int64_t step = 0;
    int64_t tokens = 0;  // consumed since the start of training
    int64_t samples = 0;
    std::string config;  // resolved YAML
    std::map<std::string, std::string> extra;
    std::string run_id;  // of the run that wrote it, in every file; may be empty
    MeshShape mesh;      // that wrote it; for information, any mesh can load it
};

struct ManifestPiece {
    int64_t file = 0;   // index into the manifest's files
    std::string entry;  // its name in that file
    Box box;            // of the logical tensor
    uint32_t crc = 0;   // CRC-32C of its bytes
};

struct ManifestTensor {
    std::string name;
    DType dtype = DType::f32;
    std::array<int64_t, 2> global{1, 0};
    bool is_vector = false;
    std::vector<ManifestPiece> pieces;

    std::string shape_text() const;  // "[257, 24]"
    uint64_t elements() const { return static_cast<uint64_t>(global[0] * global[1]); }
    uint64_t bytes() const { return elements() * size_of(dtype); }
};

struct ManifestFile {
    std::string name;
    uint64_t bytes = 0;
    uint32_t header_crc = 0;  // CRC-32C of everything before the tensor data
};

// The table of contents of a checkpoint folder, stored as JSON in manifest.json.
struct Manifest {
    std::string id;  // of the save; each shard's header carries it too
    CheckpointState state;
    std::vector<ManifestFile> files;
    std::map<std::string, ManifestTensor> tensors;
};

inline constexpr int kCheckpointVersion = 1;
inline constexpr const char* kManifestName = "manifest.json";

// The text carries its own checksum in its first line.
std::string manifest_text(const Manifest& manifest);

// Checks everything that can be checked without the shards: checksum, types, ranges, file names
// that are single path components, pieces that tile each tensor (unless `partial`: one rank's
// part). Throws Error (bad_data) naming `path`.
Manifest parse_manifest(const std::string& text, const std::string& path, bool partial = false);

// Why the pieces do not cover each element of the tensor exactly once; empty when they do.
std::string tiling_fault(const ManifestTensor& tensor);

// "[3:5, 0:24]", for messages.
std::string box_text(const Box& box);

// Bytes of a box; false when the product does not fit.
bool box_bytes(const Box& box, DType dtype, uint64_t& bytes);

}  // namespace trireme
