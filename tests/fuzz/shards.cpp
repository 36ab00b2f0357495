#include <algorithm>
#include <vector>

#include "core/error.h"
#include "data/token_shards.h"
#include "tests/fuzz/memory_file.h"

// The first byte says whether the file is nanoGPT's or llm.c's.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    if (size < 1) return 0;
    const fuzz::MemoryFile file(data + 1, size - 1);
    const DataFormat format = data[0] % 2 == 0 ? DataFormat::nanogpt : DataFormat::llmc;
    try {
        const TokenShards shards("fuzz", {file.path(), file.path()}, format);
        std::vector<int32_t> tokens(
            static_cast<size_t>(std::min<int64_t>(shards.n_tokens(), 1 << 16)));
        shards.read(shards.n_tokens() - std::ssize(tokens), tokens, 50257);
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data) std::abort();
    }
    return 0;
}
