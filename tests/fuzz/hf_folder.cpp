#include "app/hf_folder.h"

#include <cstdlib>

#include "app/config.h"
#include "app/hf_config.h"
#include "app/hf_tokenizer.h"
#include "core/error.h"

// The JSON files of a Hugging Face folder, beside tokenizer.json. The first byte chooses which.

namespace {

using namespace trireme;

// What is accepted can be written, and is read as the same again.
void try_config(const std::string& text) {
    const HfConfig theirs = parse_hf_config(text, "config.json");
    Config config;
    config.model = theirs.model;
    config.run.name = "fuzz";
    config.run.output = "fuzz";
    config.run.steps = 1;
    config.data.train = {{.path = "x", .weight = 1.0}};
    config.data.sequence_length = 1;
    resolve(config);
    const std::string again = hf_config_text(theirs);
    if (hf_config_text(parse_hf_config(again, "again")) != again) std::abort();
    if (theirs.model.layers > 100) return;
    for (const HfTensor& tensor : hf_tensors(theirs.family, theirs.model)) {
        int64_t rows = 0;
        for (const HfPart& part : tensor.parts) {
            if (part.first_row != rows) std::abort();
            rows += part.is_vector ? part.global[1] : part.global[0];
        }
        if (rows != tensor.shape[tensor.is_transposed ? 1 : 0]) std::abort();
    }
}

void try_index(const std::string& text) {
    for (const auto& [tensor, file] : parse_hf_index(text, "index")) {
        if (file.find('/') != std::string::npos || file.find('\0') != std::string::npos ||
            file.front() == '.') {
            std::abort();
        }
    }
}

void try_generation(const std::string& text) {
    const HfTokenIds ids = parse_generation_config(text, "generation_config.json");
    for (const auto& value : {ids.begin, ids.end, ids.padding}) value.dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    try {
        switch (data[0] % 3) {
            case 0:
                try_config(text);
                break;
            case 1:
                try_index(text);
                break;
            default:
                try_generation(text);
        }
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data && error.code() != ExitCode::config) std::abort();
    }
    return 0;
}
