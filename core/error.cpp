#include "core/error.h"

#include <new>

namespace trireme {

Error as_error(const std::exception_ptr& thrown, const std::string& doing) {
    const std::string place = doing.empty() ? "" : " " + doing;
    try {
        std::rethrow_exception(thrown);
    } catch (const Error& error) {
        return error;
    } catch (const std::bad_alloc&) {
        return {ExitCode::out_of_memory, "out of memory" + place};
    } catch (const std::exception& error) {
        return InternalError("internal error" + place + ": " + error.what() +
                             "; please report this");
    }
}

void fail_check(const char* what, const char* file, int line) {
    throw InternalError("internal error: expected " + std::string(what) + " (" + file + ":" +
                        std::to_string(line) + "); please report this");
}

}  // namespace trireme
