#include "data/indexed_dataset.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "data/stored_tokens.h"

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

// The last of the rising values value_of(0 to count - 1) that is not above `limit`; the first is
// not.
template <typename ValueOf>
int64_t last_at_most(int64_t limit, int64_t count, const ValueOf& value_of) {
    int64_t low = 0, high = count;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        (value_of(middle) <= limit ? low : high) = middle;
    }
    return low;
}

}  // namespace

IndexedDataset::IndexedDataset(const std::string& prefix)
    : prefix_(prefix), bin_(open_half(prefix, ".bin")), idx_(open_half(prefix, ".idx")) {
    read_header();
    check_sequences();
    check_documents();
    check_token_file();
}

void IndexedDataset::read_header() {
    const InputFile& index = idx_;
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
    n_entries_ = static_cast<int64_t>(entries);
    n_sequences_ = static_cast<int64_t>(sequences);
}

void IndexedDataset::check_sequences() {
    const int64_t lengths_at = IndexFormat::kHeaderBytes;
    const int64_t item = size_of(type_);
    std::vector<int64_t> pointers(static_cast<size_t>(std::min(n_sequences_, kChunk)));
    read_array<int32_t>(idx_, lengths_at, n_sequences_, [&](int32_t length, int64_t i) {
        const int64_t in_chunk = i % kChunk;
        if (in_chunk == 0) {
            idx_.read(pointers_at() + 8 * i, pointers.data(),
                      8 * std::min(kChunk, n_sequences_ - i));
        }
        if (length < 0) {
            fail_index(idx_, lengths_at + 4 * i,
                       "length " + std::to_string(length) + " of sequence " + std::to_string(i),
                       "0 or more tokens");
        }
        const int64_t pointer = pointers[static_cast<size_t>(in_chunk)];
        const int64_t expected = n_tokens_ * item;
        if (pointer != expected) {
            fail_index(idx_, pointers_at() + 8 * i,
                       "pointer " + std::to_string(pointer) + " of sequence " + std::to_string(i),
                       std::to_string(expected) + ", the bytes of the sequences before it");
        }
        n_tokens_ += length;
    });
}

void IndexedDataset::check_documents() const {
    int64_t previous = 0;
    read_array<int64_t>(idx_, documents_at(), n_entries_, [&](int64_t first, int64_t i) {
        const int64_t at = documents_at() + 8 * i;
        const std::string found =
            "document index " + std::to_string(i) + " = " + std::to_string(first);
        if (i == 0 && first != 0) fail_index(idx_, at, found, "0");
        if (i == n_entries_ - 1 && first != n_sequences()) {
            fail_index(idx_, at, found,
                       "the number of sequences, " + std::to_string(n_sequences()));
        }
        if (first < previous || first > n_sequences()) {
            fail_index(idx_, at, found,
                       "a number from " + std::to_string(previous) + " to " +
                           std::to_string(n_sequences()) + ", in rising order");
        }
        previous = first;
    });
}

// What was right when the index was checked may have been changed since.
int64_t IndexedDataset::start(int64_t sequence) const {
    int64_t pointer = 0;
    const int64_t at = pointers_at() + 8 * sequence;
    idx_.read(at, &pointer, sizeof pointer);
    const int64_t begin = pointer / size_of(type_);
    if (pointer < 0 || begin > n_tokens_) fail_changed(at, pointer);
    return begin;
}

int64_t IndexedDataset::length(int64_t sequence) const {
    int32_t length = 0;
    const int64_t at = IndexFormat::kHeaderBytes + 4 * sequence;
    idx_.read(at, &length, sizeof length);
    if (length < 0 || length > n_tokens_) fail_changed(at, length);
    return length;
}

std::vector<int32_t> IndexedDataset::read_lengths() const {
    std::vector<int32_t> lengths(static_cast<size_t>(n_sequences_));
    idx_.read(IndexFormat::kHeaderBytes, lengths.data(), 4 * n_sequences_);
    int64_t total = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
        total += lengths[i];
        if (lengths[i] < 0 || total > n_tokens_) {
            fail_changed(IndexFormat::kHeaderBytes + 4 * static_cast<int64_t>(i), lengths[i]);
        }
    }
    if (total != n_tokens_) fail_changed(IndexFormat::kHeaderBytes, lengths.front());
    return lengths;
}

void IndexedDataset::fail_changed(int64_t offset, int64_t found) const {
    fail_index(idx_, offset, std::to_string(found),
               "what it was at first; do not change a dataset while it is in use");
}

int64_t IndexedDataset::first_sequence(int64_t document) const {
    int64_t first = 0;
    idx_.read(documents_at() + 8 * document, &first, sizeof first);
    return first;
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
    read_tokens(bin_, position * size_of(type_), type_, tokens, vocab_size,
                [&](int64_t index) { return place_of(position + index); });
}

std::string IndexedDataset::place_of(int64_t token) const {
    const int64_t sequence =
        last_at_most(token, n_sequences(), [&](int64_t i) { return start(i); });
    const int64_t document =
        last_at_most(sequence, n_documents(), [&](int64_t i) { return first_sequence(i); });
    const int64_t offset = token - start(first_sequence(document));
    return bin_.path() + ": document " + std::to_string(document) + ", token " +
           std::to_string(offset);
}

}  // namespace trireme
