#pragma once

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

#include "tests/data/data_test_support.h"

// Inputs that are packed or come out of a pipe.

namespace trireme {

inline std::string gzipped(const std::string& text, const std::string& path) {
    gzFile file = ::gzopen(path.c_str(), "wb");
    ::gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    ::gzclose(file);
    return path;
}

inline std::string zstd_frame(const std::string& text) {
    std::string packed(::ZSTD_compressBound(text.size()), '\0');
    packed.resize(::ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
    return packed;
}

inline std::string zstd_file(const std::string& text, const std::string& path) {
    write_text(path, zstd_frame(text));
    return path;
}

// The standard input is this file while it lives.
class StandardInput {
public:
    explicit StandardInput(const std::string& path) : saved_(::dup(STDIN_FILENO)) {
        const int file = ::open(path.c_str(), O_RDONLY);
        REQUIRE(::dup2(file, STDIN_FILENO) == STDIN_FILENO);
        ::close(file);
    }
    ~StandardInput() {
        ::dup2(saved_, STDIN_FILENO);
        ::close(saved_);
    }
    StandardInput(const StandardInput&) = delete;
    StandardInput& operator=(const StandardInput&) = delete;

private:
    int saved_;
};

// A pipe out of which this file comes, its first byte alone.
class FilePipe {
public:
    explicit FilePipe(const std::string& path)
        : pipe_(::popen(("head -c 1 '" + path + "'; sleep 0.05; tail -c +2 '" + path + "'").c_str(),
                        "r")) {
        REQUIRE(pipe_ != nullptr);
    }
    ~FilePipe() { ::pclose(pipe_); }
    FilePipe(const FilePipe&) = delete;
    FilePipe& operator=(const FilePipe&) = delete;

    std::string path() const { return "/dev/fd/" + std::to_string(::fileno(pipe_)); }

private:
    FILE* pipe_;
};

}  // namespace trireme
