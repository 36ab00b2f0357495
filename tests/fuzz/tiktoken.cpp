#include <cstdlib>

#include "core/error.h"
#include "data/tiktoken_file.h"

// The first byte chooses the pattern.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    if (size < 1) return 0;
    constexpr const char* kPatterns[] = {"", "gpt2", "cl100k", "o200k", "qwen"};
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    TokenizerOptions options;
    options.pattern = kPatterns[data[0] % 5];
    try {
        const auto tokenizer = tokenizer_from_tiktoken(text, "text", options);
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
