#include "data/fingerprint.h"

#include <algorithm>
#include <array>

#include "core/crc32c.h"
#include "data/input_file.h"
#include "data/token_source.h"

namespace trireme {

namespace {

constexpr int64_t kBlockBytes = 4096;
constexpr int64_t kBlocks = 64;

std::string fingerprint_of_file(const std::string& path) {
    const InputFile file(path);
    const int64_t last = std::max<int64_t>(file.size() - kBlockBytes, 0);
    std::array<char, kBlockBytes> block{};
    uint32_t crc = 0;
    for (int64_t i = 0; i < kBlocks; ++i) {
        // Not last * i / (kBlocks - 1): that product would overflow for an exabyte.
        const int64_t at = last / (kBlocks - 1) * i + last % (kBlocks - 1) * i / (kBlocks - 1);
        const int64_t bytes = std::min(kBlockBytes, file.size() - at);
        file.read(at, block.data(), bytes);
        crc = crc32c(block.data(), static_cast<size_t>(bytes), crc);
    }
    return std::to_string(file.size()) + " bytes, crc " + crc_text(crc);
}

}  // namespace

std::string dataset_fingerprint(const DataSourceOptions& source) {
    const std::vector<std::string> files = files_of(source);
    if (format_of(source) == DataFormat::megatron) {
        return "bin " + fingerprint_of_file(files[0]) + "; idx " + fingerprint_of_file(files[1]);
    }
    // There may be thousands, and the text stands in every checkpoint.
    uint32_t crc = 0;
    for (const std::string& file : files) {
        const std::string text = fingerprint_of_file(file) + "\n";
        crc = crc32c(text.data(), text.size(), crc);
    }
    return std::to_string(files.size()) + " files, crc " + crc_text(crc);
}

std::vector<std::string> dataset_fingerprints(std::span<const DataSourceOptions> sources) {
    std::vector<std::string> all;
    for (const DataSourceOptions& source : sources) all.push_back(dataset_fingerprint(source));
    return all;
}

}  // namespace trireme
