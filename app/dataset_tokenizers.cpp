#include "app/dataset_tokenizers.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "data/dataset_manifest.h"
#include "data/tokenizer.h"

namespace trireme {

namespace {

constexpr size_t kMostNamed = 3;

// The datasets that one tokenizer made.
struct Group {
    std::string tokenizer, fingerprint;
    std::vector<std::string> datasets;

    // "dataset a", "datasets a, b, c and 2 more"
    std::string to_string() const {
        std::string text = datasets.size() > 1 ? "datasets " : "dataset ";
        for (size_t i = 0; i < std::min(datasets.size(), kMostNamed); ++i) {
            text += (i > 0 ? ", " : "") + datasets[i];
        }
        if (datasets.size() <= kMostNamed) return text;
        return text + " and " + std::to_string(datasets.size() - kMostNamed) + " more";
    }
};

// Nothing when it is none of prepare's, damaged, or not of the .bin beside it.
std::optional<DatasetManifest> manifest_of(const DataSourceOptions& source) {
    if (source.format == DataFormat::nanogpt || source.format == DataFormat::llmc) return {};
    try {
        std::optional<DatasetManifest> manifest = read_manifest(source.path);
        std::error_code error;
        const auto bytes = std::filesystem::file_size(source.path + ".bin", error);
        if (!manifest || error || static_cast<int64_t>(bytes) != manifest->bin.bytes) return {};
        if (manifest->tokenizer_fingerprint.empty()) return {};
        return manifest;
    } catch (const Error&) {
        return {};
    }
}

std::vector<Group> groups_of(const std::vector<DataSourceOptions>& sources) {
    std::vector<Group> groups;
    for (const DataSourceOptions& source : sources) {
        const std::optional<DatasetManifest> manifest = manifest_of(source);
        if (!manifest) continue;
        auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& other) {
            return other.fingerprint == manifest->tokenizer_fingerprint;
        });
        if (group == groups.end()) {
            groups.push_back({manifest->tokenizer, manifest->tokenizer_fingerprint, {}});
            group = groups.end() - 1;
        }
        std::vector<std::string>& names = group->datasets;
        if (std::find(names.begin(), names.end(), source.path) == names.end()) {
            names.push_back(source.path);
        }
    }
    return groups;
}

}  // namespace

std::string tokenizer_warning(const std::vector<DataSourceOptions>& sources, const Config& config) {
    const std::vector<Group> groups = groups_of(sources);
    if (groups.empty()) return "";
    const std::string& own = config.data.tokenizer;
    if (groups.size() > 1) {
        std::string text =
            "the datasets were made with different tokenizers, so that the same ids "
            "are other text in them:";
        for (const Group& group : groups) {
            text +=
                (&group == &groups[0] ? " " : "; ") + group.tokenizer + " for " + group.to_string();
        }
        return text + "; prepare them with one tokenizer and set data.tokenizer to it (found " +
               own + ")";
    }
    if (own == "none") return "";
    const Group& group = groups[0];
    std::string text = "the tokenizer of " + group.to_string() + " is " + group.tokenizer + ", ";
    try {
        if (make_tokenizer(own)->fingerprint() == group.fingerprint) return "";
    } catch (const Error& error) {
        return text + "and data.tokenizer cannot be compared with it: " + error.what();
    }
    const bool is_given = config.is_given("data.tokenizer");
    if (own == group.tokenizer) {
        text += "but that file is not the same now";
    } else {
        text += is_given ? "but data.tokenizer is " + own
                         : "but data.tokenizer is not set, which means " + own;
    }
    text += "; generate, export and eval --choices go by data.tokenizer: ";
    return text + (own == group.tokenizer ? "give the former file, or prepare the text anew"
                                          : "set data.tokenizer=" + group.tokenizer);
}

}  // namespace trireme
