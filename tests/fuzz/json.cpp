#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/strict_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    const std::string text(reinterpret_cast<const char*>(data), size);
    try {
        const nlohmann::json parsed = parse_strict_json(text, "text", 16);
        if (parse_strict_json(parsed.dump(), "again", 16) != parsed) std::abort();
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data) std::abort();
    }
    return 0;
}
