#include "data/token_type.h"

#include <cstring>

namespace trireme {
namespace {

template <typename T>
size_t widen(const std::byte* raw, std::span<int32_t> tokens, int64_t vocab_size, int64_t* bad) {
    for (size_t i = 0; i < tokens.size(); ++i) {
        T value;
        std::memcpy(&value, raw + i * sizeof(T), sizeof(T));
        const int64_t id = static_cast<int64_t>(value);
        if (id < 0 || id >= vocab_size) {
            *bad = id;
            return i;
        }
        tokens[i] = static_cast<int32_t>(id);
    }
    return tokens.size();
}

}  // namespace

size_t widen_tokens(TokenType type, const std::byte* raw, std::span<int32_t> tokens,
                    int64_t vocab_size, int64_t* bad) {
    switch (type) {
        case TokenType::u8:
            return widen<uint8_t>(raw, tokens, vocab_size, bad);
        case TokenType::i8:
            return widen<int8_t>(raw, tokens, vocab_size, bad);
        case TokenType::i16:
            return widen<int16_t>(raw, tokens, vocab_size, bad);
        case TokenType::i32:
            return widen<int32_t>(raw, tokens, vocab_size, bad);
        case TokenType::i64:
            return widen<int64_t>(raw, tokens, vocab_size, bad);
        case TokenType::u16:
            return widen<uint16_t>(raw, tokens, vocab_size, bad);
        case TokenType::u32:
            return widen<uint32_t>(raw, tokens, vocab_size, bad);
    }
    return 0;
}

int64_t size_of(TokenType type) {
    switch (type) {
        case TokenType::u8:
        case TokenType::i8:
            return 1;
        case TokenType::i16:
        case TokenType::u16:
            return 2;
        case TokenType::i32:
        case TokenType::u32:
            return 4;
        case TokenType::i64:
            return 8;
    }
    return 0;
}

std::string_view name_of(TokenType type) {
    switch (type) {
        case TokenType::u8:
            return "uint8";
        case TokenType::i8:
            return "int8";
        case TokenType::i16:
            return "int16";
        case TokenType::i32:
            return "int32";
        case TokenType::i64:
            return "int64";
        case TokenType::u16:
            return "uint16";
        case TokenType::u32:
            return "uint32";
    }
    return "?";
}

}  // namespace trireme
