#include "data/tiktoken_file.h"
#include "tests/fuzz/try_tokenizer.h"

// The first byte chooses the pattern.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1) return 0;
    constexpr const char* kPatterns[] = {"", "gpt2", "cl100k", "o200k", "qwen"};
    trireme::TokenizerOptions options;
    options.pattern = kPatterns[data[0] % 5];
    trireme::fuzz::try_tokenizer(
        [&](const std::string& text) {
            return trireme::tokenizer_from_tiktoken(text, "text", options);
        },
        std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
    return 0;
}
