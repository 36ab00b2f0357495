#include "app/hf_folder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "app/config_problems.h"
#include "app/readable.h"
#include "core/error.h"
#include "core/strict_json.h"

namespace trireme {

namespace {

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kHeadName = "lm_head.weight";
constexpr uint64_t kMaxIndexBytes = uint64_t{100} << 20;
constexpr uint64_t kChunkElements = uint64_t{1} << 20;
constexpr size_t kMostFiles = 10'000;

[[noreturn]] void fail(const std::string& text) {
    throw Error(ExitCode::bad_data, text);
}

bool exists(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
}

// binary16 to f32, exactly.
float from_half(uint16_t half) {
    const uint32_t sign = uint32_t{half & 0x8000u} << 16;
    const uint32_t rest = half & 0x7fffu;
    if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest >= 0x400u) return std::bit_cast<float>(sign | ((rest << 13) + (112u << 23)));
    // Subnormal: a multiple of 2^-24.
    const float magnitude = static_cast<float>(rest) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

template <typename T, typename Convert>
void convert(const std::vector<char>& bytes, uint64_t count, float* to, const Convert& from) {
    for (uint64_t i = 0; i < count; ++i) {
        T value;
        std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
        to[i] = from(value);
    }
}

}  // namespace

std::map<std::string, std::string> parse_hf_index(const std::string& text,
                                                  const std::string& path) {
    const nlohmann::json index = parse_strict_json(text, path, 4);
    const nlohmann::json& map = member(index, "weight_map", path);
    if (!map.is_object()) fail(path + ": weight_map is not an object");
    std::map<std::string, std::string> files;
    for (const auto& [tensor, file] : map.items()) {
        if (!file.is_string()) fail(path + ": the file of '" + shown(tensor) + "' is not a text");
        const std::string& name = file.get_ref<const std::string&>();
        if (name.empty() || name[0] == '.' ||
            name.find_first_of(std::string_view("/\0", 2)) != std::string::npos ||
            !name.ends_with(".safetensors")) {
            fail(path + ": '" + shown(tensor) + "' is said to be in '" + shown(name) +
                 "', expected the name of a .safetensors file in the same folder");
        }
        files.emplace(tensor, name);
    }
    return files;
}

HfFolder::HfFolder(const std::string& folder) : folder_(folder) {
    if (exists(folder + "/" + kSingleName)) {
        add_file(folder + "/" + kSingleName);
        return;
    }
    const std::string path = folder + "/" + kIndexName;
    if (!exists(path)) {
        const bool is_pickled = exists(folder + "/pytorch_model.bin") ||
                                exists(folder + "/pytorch_model.bin.index.json");
        fail(folder + ": neither " + kSingleName + " nor " + kIndexName +
             (is_pickled ? "; pytorch_model.bin is not read: save the model as safetensors" : ""));
    }
    const auto files = parse_hf_index(read_file(path, kMaxIndexBytes), path);
    std::set<std::string> names;
    for (const auto& [tensor, file] : files) names.insert(file);
    if (names.size() > kMostFiles) fail(path + ": names more than 10000 files");
    for (const std::string& name : names) add_file(folder + "/" + name);
    for (const auto& [tensor, file] : files) {
        const auto found = tensors_.find(tensor);
        const std::string expected = folder + "/" + file;
        if (found == tensors_.end() || files_[found->second.file].path() != expected) {
            fail(path + ": tensor '" + shown(tensor) + "' is not in " + expected);
        }
    }
}

void HfFolder::add_file(const std::string& path) {
    files_.push_back(File::open(path));
    headers_.push_back(read_safetensors_header(files_.back()));
    for (const SafetensorsEntry& entry : headers_.back().entries) {
        const auto [at, is_new] = tensors_.emplace(entry.name, Place{files_.size() - 1, entry});
        if (!is_new) {
            fail(path + ": tensor '" + shown(entry.name) + "' is also in " +
                 files_[at->second.file].path());
        }
    }
}

const HfFolder::Place* HfFolder::find(HfFamily family, const std::string& name) const {
    auto found = tensors_.find(name);
    if (found == tensors_.end() && family == HfFamily::gpt2 && name.starts_with(kGpt2Prefix)) {
        found = tensors_.find(name.substr(std::strlen(kGpt2Prefix)));
    }
    return found == tensors_.end() ? nullptr : &found->second;
}

std::string HfFolder::where(const Place& place) const {
    return files_[place.file].path() + ", tensor '" + shown(place.entry.name) + "'";
}

void HfFolder::check_layers(int layers) const {
    if (static_cast<size_t>(layers) <= tensors_.size()) return;
    fail(folder_ + ": found " + std::to_string(tensors_.size()) + " tensors, too few for the " +
         std::to_string(layers) + " layers of config.json");
}

void HfFolder::check_tensors(HfFamily family, const std::vector<HfTensor>& tensors,
                             bool has_tied_head) {
    std::set<std::string> known;
    for (const HfTensor& tensor : tensors) {
        const Place* place = find(family, tensor.name);
        if (!place) {
            fail(folder_ + ": tensor '" + tensor.name + "' " + shape_text(tensor.shape) +
                 " is missing");
        }
        const SafetensorsEntry& entry = place->entry;
        if (entry.shape != tensor.shape) {
            fail(where(*place) + ": found shape " + shape_text(entry.shape) + ", expected " +
                 shape_text(tensor.shape) + " by config.json");
        }
        if (entry.dtype != DType::f32 && entry.dtype != DType::bf16 && entry.dtype != DType::f16) {
            fail(where(*place) + ": found type " + std::string(name_of(entry.dtype)) +
                 ", expected F32, BF16 or F16");
        }
        known.insert(entry.name);
        found_.emplace(tensor.name, *place);
    }
    for (const auto& [name, place] : tensors_) {
        if (known.count(name) != 0 || is_hf_buffer(family, name)) continue;
        if (has_tied_head && name == kHeadName) {
            check_tied_head(family, tensors.front());
            continue;
        }
        fail(where(place) + ": no part of the model that config.json describes");
    }
}

// Some programs write a tied head as well; then it must be the embedding.
void HfFolder::check_tied_head(HfFamily family, const HfTensor& embedding) const {
    const Place& head = *find(family, kHeadName);
    const Place& token = place_of(embedding);
    bool same = head.entry.shape == token.entry.shape && head.entry.dtype == token.entry.dtype;
    std::vector<char> a(kChunkElements), b(kChunkElements);
    for (uint64_t at = 0; same && at < head.entry.bytes(); at += a.size()) {
        const uint64_t count = std::min<uint64_t>(a.size(), head.entry.bytes() - at);
        read_safetensors_bytes(files_[head.file], headers_[head.file], head.entry, at, count,
                               a.data());
        read_safetensors_bytes(files_[token.file], headers_[token.file], token.entry, at, count,
                               b.data());
        same = std::memcmp(a.data(), b.data(), count) == 0;
    }
    if (!same) {
        fail(where(head) + ": differs from '" + token.entry.name +
             "', but config.json says tie_word_embeddings");
    }
}

void HfFolder::read_elements(const Place& place, uint64_t first, uint64_t count, float* to) const {
    const size_t size = size_of(place.entry.dtype);
    std::vector<char> bytes;
    for (uint64_t done = 0; done < count;) {
        const uint64_t n = std::min(kChunkElements, count - done);
        bytes.resize(n * size);
        read_safetensors_bytes(files_[place.file], headers_[place.file], place.entry,
                               (first + done) * size, n * size, bytes.data());
        float* at = to + done;
        if (place.entry.dtype == DType::f32) {
            std::memcpy(at, bytes.data(), bytes.size());
        } else if (place.entry.dtype == DType::bf16) {
            convert<bf16>(bytes, n, at, [](bf16 value) { return float{value}; });
        } else {
            convert<uint16_t>(bytes, n, at, from_half);
        }
        done += n;
    }
}

void HfFolder::read_rows(const HfTensor& tensor, int64_t first, int64_t count, float* to) const {
    const int64_t cols = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
    read_elements(place_of(tensor), static_cast<uint64_t>(first * cols),
                  static_cast<uint64_t>(count * cols), to);
}

std::vector<float> HfFolder::read_transposed(const HfTensor& tensor) const {
    const size_t rows = static_cast<size_t>(tensor.shape[0]);
    const size_t cols = static_cast<size_t>(tensor.shape[1]);
    std::vector<float> values(rows * cols), row(cols);
    for (size_t r = 0; r < rows; ++r) {
        read_elements(place_of(tensor), r * cols, cols, row.data());
        for (size_t c = 0; c < cols; ++c) values[c * rows + r] = row[c];
    }
    return values;
}

}  // namespace trireme
