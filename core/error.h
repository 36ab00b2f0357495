#pragma once

#include <exception>
#include <stdexcept>
#include <string>

namespace trireme {

// Process exit codes, as documented for users. The same code is used on every rank.
enum class ExitCode : int {
    ok = 0,
    bad_data = 65,  // data or checkpoint is damaged, missing or does not fit
    internal = 70,  // a bug in this program
    out_of_memory = 71,
    output_busy = 73,  // output folder in use or not creatable
    io = 74,           // reading or writing failed
    stopped = 75,      // stopped on request, checkpoint saved
    numerics = 76,     // NaN or Inf
    config = 78,       // configuration, command line or environment
    hang = 86,
    no_progress = 93,
};

// A failure that a user or the environment caused. The message says what was found and expected,
// where, and what to do. Caught in main or app/rank_errors, which end every rank with `code`.
class Error : public std::runtime_error {
public:
    Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    // `advice`, the message's end, is what to do in place of what `code` is answered with mostly.
    Error(ExitCode code, const std::string& message, const std::string& advice)
        : std::runtime_error(message + advice), code_(code), is_advised_(true) {}
    ExitCode code() const { return code_; }
    bool is_advised() const { return is_advised_; }
    // The same error in other words.
    Error retold(const std::string& message) const {
        return is_advised_ ? Error(code_, message, "") : Error(code_, message);
    }

private:
    ExitCode code_;
    bool is_advised_ = false;
};

// A broken invariant: a programmer's mistake, never a user's.
class InternalError : public Error {
public:
    explicit InternalError(const std::string& message) : Error(ExitCode::internal, message) {}
};

// What was thrown, as an Error: another exception than that is lack of memory or a bug. `doing`
// says what went on, as in "while loading FOLDER"; may be empty.
Error as_error(const std::exception_ptr& thrown, const std::string& doing = "");

[[noreturn]] void fail_check(const char* what, const char* file, int line);

}  // namespace trireme

// Always-on check of a cheap invariant. `what` completes "expected ...".
#define TRIREME_CHECK(condition, what)                                     \
    do {                                                                   \
        if (!(condition)) ::trireme::fail_check(what, __FILE__, __LINE__); \
    } while (0)
