#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <map>
#include <string>

#include "data/prepare.h"
#include "tests/data/data_test_support.h"

namespace trireme {

inline std::string json_lines(int n, const std::string& word) {
    std::string lines;
    for (int i = 0; i < n; ++i) {
        lines += "{\"id\": " + std::to_string(i) + ", \"text\": \"" + word + " the \\u00e9 " +
                 std::to_string(i * 7919) + " hello\\n\"}\n";
    }
    return lines;
}

// Runs `prepare` in a process that is killed after `n_batches`; whether it was.
inline bool is_killed_after(int n_batches, PrepareOptions options) {
    const pid_t child = ::fork();
    if (child == 0) {
        int n = 0;
        options.progress = [&](const PrepareOptions::Progress&) {
            if (++n == n_batches) ::raise(SIGKILL);
        };
        try {
            prepare(options);
        } catch (...) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE((WIFSIGNALED(status) || WEXITSTATUS(status) == 0));
    return WIFSIGNALED(status);
}

// The folder's files whose names begin so, by the rest of the name.
inline std::map<std::string, std::string> files_of(const TemporaryFolder& folder,
                                                   const std::string& begin) {
    std::map<std::string, std::string> files;
    for (const std::string& name : folder.names()) {
        if (name.starts_with(begin)) {
            files[name.substr(begin.size())] = read_text(folder / name);
        }
    }
    return files;
}

}  // namespace trireme
