#include "data/choices.h"
#include "core/error.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    const fuzz::MemoryFile file(data, size);
    try {
        const ByteTokenizer bytes;
        for (const ChoiceQuestion& question : read_choices(file.path())) {
            if (question.answer >= question.choices.size()) std::abort();
            for (const std::string& choice : question.choices) {
                const ChoiceTokens row =
                    tokenize_choice(bytes, question.context, choice, 257, "fuzz");
                if (row.first < 1 || row.first >= row.tokens.size()) std::abort();
            }
        }
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data) std::abort();
    }
    return 0;
}
