#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "parallel/schedule_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    const std::string text(reinterpret_cast<const char*>(data), size);
    for (const int stages : {1, 2}) {
        try {
            const ScheduleProgram program = parse_schedule(text, "text", stages, 2);
            const std::string written = write_schedule(program);
            if (write_schedule(parse_schedule(written, "again", stages, 2)) != written) {
                std::abort();
            }
        } catch (const InternalError&) {
            std::abort();
        } catch (const Error& error) {
            if (error.code() != ExitCode::config) std::abort();
        }
    }
    return 0;
}
