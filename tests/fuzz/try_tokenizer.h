#pragma once

#include <cstdlib>
#include <string>

#include "core/error.h"
#include "data/tokenizer.h"

namespace trireme::fuzz {

// A tokenizer that `make` accepts gives ids in its vocabulary, for any bytes; what it refuses is
// the file's fault.
template <typename Make>
void try_tokenizer(const Make& make, const std::string& text) {
    try {
        const auto tokenizer = make(text);
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
}

}  // namespace trireme::fuzz
