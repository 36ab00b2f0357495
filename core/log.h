#pragma once

#include <cstdio>
#include <memory>
#include <string_view>

namespace trireme {

// What a run tells the person at the console: one line a call, written at once and whole, so that
// the lines of several ranks never mix. Messages are taken literally; nothing in them is a format.
// Thread-safe. Libraries throw instead; one that must end its rank and cannot says why here.
class Log {
public:
    // Writes to `out` (not owned, must outlive the log).
    Log(int rank, int world_size, std::FILE* out = stderr);
    ~Log();
    Log(Log&& other) noexcept;
    Log& operator=(Log&&) = delete;
    Log(const Log&) = delete;

    void info(std::string_view message);   // rank 0 only; other ranks stay silent
    void warn(std::string_view message);   // "warning: ..."; "[rank 3] " in front on other ranks
    void error(std::string_view message);  // "error: ...", likewise

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace trireme
