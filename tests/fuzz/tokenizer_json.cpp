#include "data/tokenizer_json.h"

#include <cstdlib>

#include "core/error.h"

// A tokenizer that is accepted gives ids in its vocabulary, for any bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    const std::string text(reinterpret_cast<const char*>(data), size);
    try {
        const auto tokenizer = tokenizer_from_json(text, "text");
        std::vector<int32_t> ids;
        tokenizer->encode(text.substr(0, 300), ids);
        for (const int32_t id : ids) {
            if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
        }
        tokenizer->decode(ids);
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data && error.code() != ExitCode::config) std::abort();
    }
    return 0;
}
