#include "data/stored_tokens.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "core/error.h"

namespace trireme {

std::optional<BadToken> read_to_bad_token(const InputFile& file, int64_t offset, TokenType type,
                                          std::span<int32_t> tokens, int64_t vocab_size) {
    const auto item = static_cast<size_t>(size_of(type));
    std::array<std::byte, 16384> raw;
    for (size_t done = 0; done < tokens.size();) {
        const size_t n = std::min(tokens.size() - done, raw.size() / item);
        file.read(offset + static_cast<int64_t>(done * item), raw.data(),
                  static_cast<int64_t>(n * item));
        int64_t bad = 0;
        const size_t good =
            widen_tokens(type, raw.data(), tokens.subspan(done, n), vocab_size, &bad);
        if (good < n) return BadToken{static_cast<int64_t>(done + good), bad};
        done += n;
    }
    return std::nullopt;
}

void fail_bad_token(const std::string& place, int64_t id, int64_t vocab_size) {
    throw Error(ExitCode::bad_data, place + " is id " + std::to_string(id) +
                                        ", but the vocabulary has " + std::to_string(vocab_size) +
                                        " ids (0 to " + std::to_string(vocab_size - 1) +
                                        "); use the tokenizer that the model was made for, or a "
                                        "larger model.vocab_size");
}

}  // namespace trireme
