#include "app/config.h"

#include <cstdlib>

#include "core/error.h"

// A configuration that is accepted resolves to one that reads back as itself.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    const std::string text(reinterpret_cast<const char*>(data), size);
    try {
        const std::string resolved = dump_config(parse_config(text, "text", {}, 8));
        if (dump_config(parse_config(resolved, "again", {}, 8)) != resolved) std::abort();
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::config) std::abort();
    }
    return 0;
}
