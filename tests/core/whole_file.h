#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace trireme::test {

// All bytes of a file; none where there is no file.
inline std::string read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

// Makes the folder as well.
inline void write_text(const std::string& path, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << content;
}

}  // namespace trireme::test
