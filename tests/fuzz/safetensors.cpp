#include "core/safetensors.h"

#include "core/error.h"
#include "tests/fuzz/memory_file.h"

// A header that is accepted must describe the file it stands in.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    const fuzz::MemoryFile memory(data, size);
    try {
        const File file = File::open(memory.path());
        const SafetensorsHeader header = read_safetensors_header(file);
        uint64_t bytes = 0;
        std::string values;
        for (const SafetensorsEntry& entry : header.entries) {
            values.resize(entry.bytes());
            read_safetensors_bytes(file, header, entry, 0, entry.bytes(), values.data());
            bytes += entry.bytes();
        }
        if (header.data_offset + bytes != size) std::abort();
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data) std::abort();
    }
    return 0;
}
