#include "core/error.h"

namespace trireme {

void fail_check(const char* what, const char* file, int line) {
    throw InternalError("internal error: expected " + std::string(what) + " (" + file + ":" +
                        std::to_string(line) + "); please report this");
}

}  // namespace trireme
