#include "parallel/checkpoint_manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "core/strict_json.h"
#include "parallel/box.h"
#include "parallel/mesh_json.h"

namespace trireme {

using nlohmann::json;

namespace {

constexpr const char* kFormat = "trireme-checkpoint";
constexpr int64_t kMaxSize = int64_t{1} << 60;  // of a dimension; sums of two cannot overflow

[[noreturn]] void fail(const std::string& path, const std::string& what) {
    throw Error(ExitCode::bad_data, path + ": " + what);
}

std::string checksum_line(const std::string& rest) {
    return "{\"crc32c\": \"" + crc_text(crc32c(rest.data(), rest.size())) + "\",\n";
}

// A vector is written with one dimension.
json dimensions(const std::array<int64_t, 2>& pair, bool is_vector) {
    return is_vector ? json::array({pair[1]}) : json::array({pair[0], pair[1]});
}

std::array<int64_t, 2> parse_dimensions(const json& list, const std::string& where,
                                        const char* what, size_t expected, int64_t first) {
    if (!list.is_array() || list.size() != expected) {
        fail(where, std::string(what) + " is not a list of " + std::to_string(expected));
    }
    std::array<int64_t, 2> pair{first, 0};
    for (size_t i = 0; i < expected; ++i) {
        int64_t& value = pair[2 - expected + i];
        value = whole_number(list[i], where, what);
        if (value > kMaxSize) fail(where, std::string(what) + " is too large");
    }
    return pair;
}

bool is_plain_name(const std::string& name) {
    if (name.empty() || name[0] == '.' || name.size() > 255) return false;
    return std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '-' || c == '_';
    });
}

ManifestFile parse_file(const json& object, const std::string& path) {
    ManifestFile file;
    file.name = string_member(object, "name", path);
    if (!is_plain_name(file.name)) {
        fail(path, "file name " + json(file.name).dump() + " is not a plain name in this folder");
    }
    const std::string where = path + ", file " + file.name;
    file.bytes = static_cast<uint64_t>(whole_number(member(object, "bytes", where), where, "size"));
    file.header_crc = parse_crc(string_member(object, "header_crc32c", where), where);
    return file;
}

ManifestTensor parse_tensor(const json& object, size_t n_files, bool partial,
                            const std::string& path) {
    ManifestTensor tensor;
    tensor.name = string_member(object, "name", path);
    const std::string where = path + ", tensor '" + tensor.name + "'";
    const auto dtype = dtype_named(string_member(object, "dtype", where));
    if (!dtype) fail(where, "unknown element type");
    tensor.dtype = *dtype;
    const json& shape = member(object, "shape", where);
    tensor.is_vector = shape.is_array() && shape.size() == 1;
    const size_t rank = tensor.is_vector ? 1 : 2;
    tensor.global = parse_dimensions(shape, where, "shape", rank, 1);
    const json& pieces = member(object, "pieces", where);
    if (!pieces.is_array()) fail(where, "'pieces' is not a list");
    for (const json& item : pieces) {
        ManifestPiece piece;
        piece.file = whole_number(member(item, "file", where), where, "file index");
        if (static_cast<uint64_t>(piece.file) >= n_files) fail(where, "file index out of range");
        piece.entry = string_member(item, "entry", where);
        piece.box.begin = parse_dimensions(member(item, "begin", where), where, "begin", rank, 0);
        piece.box.size = parse_dimensions(member(item, "size", where), where, "size", rank, 1);
        piece.crc = parse_crc(string_member(item, "crc32c", where), where);
        tensor.pieces.push_back(std::move(piece));
    }
    const std::string fault = partial ? "" : tiling_fault(tensor);
    if (!fault.empty()) fail(where, fault);
    return tensor;
}

CheckpointState parse_state(const json& object, const std::string& path) {
    const auto count = [&](const json& from, const char* key) {
        return whole_number(member(from, key, path), path, key);
    };
    CheckpointState state;
    state.step = count(object, "step");
    state.tokens = count(object, "tokens");
    state.samples = count(object, "samples");
    state.config = string_member(object, "config", path);
    if (object.contains("run_id")) state.run_id = string_member(object, "run_id", path);
    const json& mesh = member(object, "mesh", path);
    const auto axis = [&](const char* key) {
        return static_cast<int>(std::min<int64_t>(count(mesh, key), INT32_MAX));
    };
    state.mesh.tensor = axis("tensor");
    state.mesh.context = axis("context");
    state.mesh.data = axis("data");
    state.mesh.pipeline = axis("pipeline");
    const json& extra = member(object, "extra", path);
    if (!extra.is_object()) fail(path, "'extra' is not an object");
    for (const auto& [key, value] : extra.items()) {
        if (!value.is_string()) fail(path, "extra '" + key + "' is not a string");
        state.extra[key] = value.get<std::string>();
    }
    return state;
}

json to_json(const ManifestTensor& tensor) {
    json pieces = json::array();
    for (const ManifestPiece& piece : tensor.pieces) {
        pieces.push_back({{"file", piece.file},
                          {"entry", piece.entry},
                          {"begin", dimensions(piece.box.begin, tensor.is_vector)},
                          {"size", dimensions(piece.box.size, tensor.is_vector)},
                          {"crc32c", crc_text(piece.crc)}});
    }
    return {{"name", tensor.name},
            {"dtype", std::string(name_of(tensor.dtype))},
            {"shape", dimensions(tensor.global, tensor.is_vector)},
            {"pieces", std::move(pieces)}};
}

}  // namespace

std::string ManifestTensor::shape_text() const {
    if (is_vector) return "[" + std::to_string(global[1]) + "]";
    return "[" + std::to_string(global[0]) + ", " + std::to_string(global[1]) + "]";
}

std::string box_text(const Box& box) {
    std::string text = "[";
    for (size_t d = 0; d < 2; ++d) {
        text += (d == 0 ? "" : ", ") + std::to_string(box.begin[d]) + ":" +
                std::to_string(box.begin[d] + box.size[d]);
    }
    return text + "]";
}

bool box_bytes(const Box& box, DType dtype, uint64_t& bytes) {
    uint64_t elements = 0;
    return !__builtin_mul_overflow(static_cast<uint64_t>(box.size[0]),
                                   static_cast<uint64_t>(box.size[1]), &elements) &&
           !__builtin_mul_overflow(elements, size_of(dtype), &bytes);
}

std::string tiling_fault(const ManifestTensor& tensor) {
    const Box whole{{0, 0}, tensor.global};
    uint64_t total = 0;
    if (!box_bytes(whole, DType::u8, total) || total > kMaxSize) return "the shape is too large";
    if (tensor.is_vector && tensor.global[0] != 1) return "a vector has more than one row";
    std::vector<Box> boxes;
    uint64_t covered = 0;
    for (const ManifestPiece& piece : tensor.pieces) {
        if (piece.box.size[0] < 1 || piece.box.size[1] < 1 || !contains(whole, piece.box)) {
            return "piece " + box_text(piece.box) + " does not lie in shape " + tensor.shape_text();
        }
        boxes.push_back(piece.box);
        covered += static_cast<uint64_t>(piece.box.elements());
    }
    std::sort(boxes.begin(), boxes.end(),
              [](const Box& a, const Box& b) { return a.begin < b.begin; });
    for (size_t i = 0; i < boxes.size(); ++i) {
        const int64_t end_row = boxes[i].begin[0] + boxes[i].size[0];
        const int64_t end_col = boxes[i].begin[1] + boxes[i].size[1];
        for (size_t j = i + 1; j < boxes.size() && boxes[j].begin[0] < end_row; ++j) {
            if (boxes[i].size[0] == 1 && boxes[j].begin[1] >= end_col) break;
            if (intersect(boxes[i], boxes[j]).elements() > 0) {
                return "pieces " + box_text(boxes[i]) + " and " + box_text(boxes[j]) + " overlap";
            }
        }
    }
    if (covered != total) {
        return "pieces cover " + std::to_string(covered) + " of " + std::to_string(total) +
               " elements";
    }
    return "";
}

std::string manifest_text(const Manifest& manifest) {
    const CheckpointState& state = manifest.state;
    json files = json::array();
    for (const ManifestFile& file : manifest.files) {
        files.push_back({{"name", file.name},
                         {"bytes", file.bytes},
                         {"header_crc32c", crc_text(file.header_crc)}});
    }
    json tensors = json::array();
    for (const auto& [name, tensor] : manifest.tensors) tensors.push_back(to_json(tensor));
    const json object = {
        {"format", kFormat},         {"version", kCheckpointVersion},
        {"id", manifest.id},         {"run_id", state.run_id},
        {"step", state.step},        {"tokens", state.tokens},
        {"samples", state.samples},  {"mesh", json_of<json>(state.mesh)},
        {"config", state.config},    {"extra", state.extra},
        {"files", std::move(files)}, {"tensors", std::move(tensors)},
    };
    const std::string rest = object.dump(1).substr(2) + "\n";
    return checksum_line(rest) + rest;
}

Manifest parse_manifest(const std::string& text, const std::string& path, bool partial) {
    const size_t line_end = text.find('\n');
    const std::string rest = line_end == std::string::npos ? "" : text.substr(line_end + 1);
    if (text.substr(0, line_end + 1) != checksum_line(rest)) {
        fail(path, "the checksum in its first line does not match: damaged or truncated");
    }
    const json object = parse_strict_json(text, path, 8);
    if (string_member(object, "format", path) != kFormat) fail(path, "not a checkpoint manifest");
    const int64_t version = whole_number(member(object, "version", path), path, "version");
    if (version != kCheckpointVersion) {
        fail(path, "format version " + std::to_string(version) + ", this program reads version " +
                       std::to_string(kCheckpointVersion));
    }
    Manifest manifest;
    manifest.id = string_member(object, "id", path);
    manifest.state = parse_state(object, path);
    const json& files = member(object, "files", path);
    if (!files.is_array()) fail(path, "'files' is not a list");
    std::set<std::string> names;
    for (const json& item : files) {
        manifest.files.push_back(parse_file(item, path));
        const std::string& name = manifest.files.back().name;
        if (!names.insert(name).second) fail(path, "file " + name + " is listed twice");
    }
    const json& tensors = member(object, "tensors", path);
    if (!tensors.is_array()) fail(path, "'tensors' is not a list");
    for (const json& item : tensors) {
        ManifestTensor tensor = parse_tensor(item, manifest.files.size(), partial, path);
        const std::string name = tensor.name;
        if (!manifest.tensors.emplace(name, std::move(tensor)).second) {
            fail(path, "tensor '" + name + "' is listed twice");
        }
    }
    return manifest;
}

}  // namespace trireme
