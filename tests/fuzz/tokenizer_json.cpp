#include "data/tokenizer_json.h"

#include "tests/fuzz/try_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    trireme::fuzz::try_tokenizer(
        [](const std::string& text) { return trireme::tokenizer_from_json(text, "text"); },
        std::string(reinterpret_cast<const char*>(data), size));
    return 0;
}
