#include "data/indexed_dataset.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace trireme {
namespace {

constexpr int64_t kChunk = 8192;  // array entries read at a time

InputFile open_half(const std::string& prefix, const char* extension) {
    const std::string path = prefix + extension;
    std::error_code error;
    if (!std::filesystem::exists(path, error)) {
        throw Error(ExitCode::bad_data, "dataset file " + path +
                                            " not found: a dataset is the two files " + prefix +
                                            ".bin and " + prefix +
                                            ".idx; give their common path without extension, "
                                            "or make them with 'trireme prepare'");
    }
    return InputFile(path);
}

[[noreturn]] void fail_index(const InputFile& file, int64_t offset, const std::string& found,
                             const std::string& expected) {
    throw Error(ExitCode::bad_data, file.path() + " at byte " + std::to_string(offset) +
                                        ": found " + found + ", expected " + expected +
                                        "; make the dataset again");
}

bool is_token_type(uint8_t code) {
    return (code >= 1 && code <= 5) || code == 8;
}

// Reads `count` entries of an array of T at `offset` and hands each to `take(entry, index)`.
template <typename T, typename Take>
void read_array(const InputFile& file, int64_t offset, int64_t count, const Take& take) {
    std::vector<T> chunk(static_cast<size_t>(std::min(count, kChunk)));
    for (int64_t first = 0; first < count; first += kChunk) {
        const int64_t n = std::min(kChunk, count - first);
        const int64_t item = static_cast<int64_t>(sizeof(T));
        file.read(offset + first * item, chunk.data(), n * item);
        for (int64_t i = 0; i < n; ++i) take(chunk[static_cast<size_t>(i)], first + i);
    }
}

// Widens raw tokens; returns how many were good before the first id outside [0, vocab_size).
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

size_t widen(TokenType type, const std::byte* raw, std::span<int32_t> tokens, int64_t vocab_size,
             int64_t* bad) {
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
    }
    return 0;
}

}  // namespace

int64_t size_of(TokenType type) {
    switch (type) {
        case TokenType::u8:
        case TokenType::i8:
            return 1;
        case TokenType::i16:
        case TokenType::u16:
            return 2;
        case TokenType::i32:
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
    }
    return "?";
}

IndexedDataset::IndexedDataset(const std::string& prefix)
    : prefix_(prefix), bin_(open_half(prefix, ".bin")) {
    const InputFile index = open_half(prefix, ".idx");
    int64_t n_sequences = 0;
    int64_t n_entries = 0;
    read_header(index, &n_sequences, &n_entries);
    read_sequences(index, n_sequences);
    read_documents(index, IndexFormat::kHeaderBytes + 12 * n_sequences, n_entries);
    check_token_file();
}

void IndexedDataset::read_header(const InputFile& index, int64_t* n_sequences, int64_t* n_entries) {
    if (index.size() < IndexFormat::kHeaderBytes) {
        fail_index(index, index.size(), "the end of the file",
                   "a header of " + std::to_string(IndexFormat::kHeaderBytes) + " bytes");
    }
    std::array<char, IndexFormat::kHeaderBytes> header;
    index.read(0, header.data(), IndexFormat::kHeaderBytes);
    if (std::string_view(header.data(), 9) != IndexFormat::kMagic) {
        fail_index(index, 0, "other bytes", "the mark 'MMIDIDX' of a Megatron index");
    }
    uint64_t version = 0, sequences = 0, entries = 0;
    std::memcpy(&version, &header[9], 8);
    std::memcpy(&sequences, &header[18], 8);
    std::memcpy(&entries, &header[26], 8);
    if (version != IndexFormat::kVersion) {
        fail_index(index, 9, "version " + std::to_string(version), "version 1");
    }
    const auto code = static_cast<uint8_t>(header[17]);
    if (!is_token_type(code)) {
        fail_index(index, 17, "dtype code " + std::to_string(code),
                   "an integer type (1, 2, 3, 4, 5 or 8)");
    }
    type_ = static_cast<TokenType>(code);

    uint64_t sequence_bytes = 0, entry_bytes = 0, expected = 0;
    const bool overflow =
        __builtin_mul_overflow(sequences, uint64_t{12}, &sequence_bytes) ||
        __builtin_mul_overflow(entries, uint64_t{8}, &entry_bytes) ||
        __builtin_add_overflow(sequence_bytes, entry_bytes, &expected) ||
        __builtin_add_overflow(expected, uint64_t{IndexFormat::kHeaderBytes}, &expected);
    const auto size = static_cast<uint64_t>(index.size());
    const std::string counts = std::to_string(sequences) + " sequences and " +
                               std::to_string(entries) + " document entries";
    if (overflow || size < expected) {
        fail_index(
            index, index.size(), "the end of the file",
            (overflow ? "more bytes than a file can have" : std::to_string(expected) + " bytes") +
                " for the " + counts + " that the header at byte 18 announces");
    }
    if (size == expected + sequences && sequences > 0) {
        fail_index(index, static_cast<int64_t>(expected), "a mode for each sequence",
                   "the end of the file, because multimodal datasets are not supported");
    }
    if (size > expected) {
        fail_index(index, static_cast<int64_t>(expected),
                   std::to_string(size - expected) + " more bytes",
                   "the end of the file after " + counts);
    }
    if (entries == 0) fail_index(index, 26, "0 document entries", "documents + 1");
    *n_sequences = static_cast<int64_t>(sequences);
    *n_entries = static_cast<int64_t>(entries);
}

void IndexedDataset::read_sequences(const InputFile& index, int64_t n_sequences) {
    const int64_t lengths_at = IndexFormat::kHeaderBytes;
    const int64_t pointers_at = lengths_at + 4 * n_sequences;
    lengths_.reserve(static_cast<size_t>(n_sequences));
    starts_.reserve(static_cast<size_t>(n_sequences));
    read_array<int32_t>(index, lengths_at, n_sequences, [&](int32_t length, int64_t i) {
        if (length < 0) {
            fail_index(index, lengths_at + 4 * i,
                       "length " + std::to_string(length) + " of sequence " + std::to_string(i),
                       "0 or more tokens");
        }
        lengths_.push_back(length);
        starts_.push_back(n_tokens_);
        n_tokens_ += length;
    });
    const int64_t item = size_of(type_);
    read_array<int64_t>(index, pointers_at, n_sequences, [&](int64_t pointer, int64_t i) {
        const int64_t expected = starts_[static_cast<size_t>(i)] * item;
        if (pointer != expected) {
            fail_index(index, pointers_at + 8 * i,
                       "pointer " + std::to_string(pointer) + " of sequence " + std::to_string(i),
                       std::to_string(expected) + ", the bytes of the sequences before it");
        }
    });
}

void IndexedDataset::read_documents(const InputFile& index, int64_t offset, int64_t n_entries) {
    documents_.reserve(static_cast<size_t>(n_entries));
    read_array<int64_t>(index, offset, n_entries, [&](int64_t first, int64_t i) {
        const int64_t previous = documents_.empty() ? 0 : documents_.back();
        const std::string found =
            "document index " + std::to_string(i) + " = " + std::to_string(first);
        if (i == 0 && first != 0) fail_index(index, offset, found, "0");
        if (i == n_entries - 1 && first != n_sequences()) {
            fail_index(index, offset + 8 * i, found,
                       "the number of sequences, " + std::to_string(n_sequences()));
        }
        if (first < previous || first > n_sequences()) {
            fail_index(index, offset + 8 * i, found,
                       "a number from " + std::to_string(previous) + " to " +
                           std::to_string(n_sequences()) + ", in rising order");
        }
        documents_.push_back(first);
    });
}

void IndexedDataset::check_token_file() const {
    const int64_t expected = n_tokens_ * size_of(type_);
    if (bin_.size() != expected) {
        throw Error(ExitCode::bad_data,
                    bin_.path() + " has " + std::to_string(bin_.size()) + " bytes, but " + prefix_ +
                        ".idx says " + std::to_string(expected) + " (" + std::to_string(n_tokens_) +
                        " tokens of type " + std::string(name_of(type_)) +
                        "); the two files do not belong together or one is cut off: make the "
                        "dataset again");
    }
    if (n_tokens_ == 0) {
        throw Error(ExitCode::bad_data,
                    bin_.path() + " holds no token: the corpus is empty, expected at least one");
    }
}

void IndexedDataset::read(int64_t position, std::span<int32_t> tokens, int64_t vocab_size) const {
    TRIREME_CHECK(position >= 0 && static_cast<int64_t>(tokens.size()) <= n_tokens_ - position,
                  "tokens inside the dataset");
    const int64_t limit = std::min(vocab_size, kAnyVocab);
    const size_t item = static_cast<size_t>(size_of(type_));
    std::array<std::byte, 16384> raw;
    for (size_t done = 0; done < tokens.size();) {
        const size_t n = std::min(tokens.size() - done, raw.size() / item);
        const int64_t first = position + static_cast<int64_t>(done);
        bin_.read(first * static_cast<int64_t>(item), raw.data(), static_cast<int64_t>(n * item));
        int64_t bad = 0;
        const size_t good = widen(type_, raw.data(), tokens.subspan(done, n), limit, &bad);
        if (good < n) fail_token(first + static_cast<int64_t>(good), bad, limit);
        done += n;
    }
}

void IndexedDataset::fail_token(int64_t position, int64_t id, int64_t vocab_size) const {
    const auto next = std::upper_bound(starts_.begin(), starts_.end(), position);
    const int64_t sequence = next - starts_.begin() - 1;
    const auto document = std::upper_bound(documents_.begin(), documents_.end(), sequence) - 1;
    const int64_t offset = position - start(*document);
    throw Error(ExitCode::bad_data,
                bin_.path() + ": document " + std::to_string(document - documents_.begin()) +
                    ", token " + std::to_string(offset) + " is id " + std::to_string(id) +
                    ", but the vocabulary has " + std::to_string(vocab_size) + " ids (0 to " +
                    std::to_string(vocab_size - 1) +
                    "); use the tokenizer that the model was made for, or a larger "
                    "model.vocab_size");
}

}  // namespace trireme
