#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "data/indexed_dataset_writer.h"
#include "tests/core/error_of.h"

namespace trireme {

using test::error_of;

// A folder of its own that goes away with the test.
class TestFolder {
public:
    TestFolder() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "data_test_XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no test folder");
        path_ = pattern;
    }
    ~TestFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TestFolder(const TestFolder&) = delete;
    TestFolder& operator=(const TestFolder&) = delete;

    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

    std::set<std::string> names() const {
        std::set<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(path_)) {
            names.insert(entry.path().filename().string());
        }
        return names;
    }

private:
    std::string path_;
};

inline std::string read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

// Documents of these lengths whose tokens count up over the whole dataset, modulo `vocab`.
inline void write_counting_dataset(const std::string& prefix, const std::vector<int32_t>& lengths,
                                   int32_t vocab = 1000000, TokenType type = TokenType::i32) {
    IndexedDatasetWriter writer(prefix, type);
    int32_t next = 0;
    for (const int32_t length : lengths) {
        std::vector<int32_t> tokens(static_cast<size_t>(length));
        for (int32_t& token : tokens) token = next++ % vocab;
        writer.add_document(tokens);
    }
    writer.finish();
}

}  // namespace trireme
