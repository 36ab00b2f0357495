#include "data/indexed_dataset_writer.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>

#include "core/error.h"

namespace trireme {
namespace {

template <typename T>
void narrow(std::span<const int32_t> tokens, std::vector<std::byte>& raw) {
    raw.resize(tokens.size() * sizeof(T));
    for (size_t i = 0; i < tokens.size(); ++i) {
        const T value = static_cast<T>(tokens[i]);
        if (static_cast<int64_t>(value) != tokens[i]) {
            throw Error(ExitCode::bad_data, "token id " + std::to_string(tokens[i]) +
                                                " does not fit the dataset's type of " +
                                                std::to_string(sizeof(T)) + " bytes");
        }
        std::memcpy(raw.data() + i * sizeof(T), &value, sizeof(T));
    }
}

}  // namespace

std::string checked_target(const std::string& path) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
        throw Error(ExitCode::output_busy, "cannot write " + path + ": a folder has this name");
    }
    return path;
}

TokenType token_type_for(int64_t vocab_size) {
    return vocab_size < 65500 ? TokenType::u16 : TokenType::i32;
}

void pack_tokens(std::span<const int32_t> tokens, TokenType type, std::vector<std::byte>& packed) {
    switch (type) {
        case TokenType::u8:
            narrow<uint8_t>(tokens, packed);
            break;
        case TokenType::i8:
            narrow<int8_t>(tokens, packed);
            break;
        case TokenType::i16:
            narrow<int16_t>(tokens, packed);
            break;
        case TokenType::i32:
            narrow<int32_t>(tokens, packed);
            break;
        case TokenType::i64:
            narrow<int64_t>(tokens, packed);
            break;
        case TokenType::u16:
            narrow<uint16_t>(tokens, packed);
            break;
        case TokenType::u32:
            narrow<uint32_t>(tokens, packed);
            break;
    }
}

IndexedDatasetWriter::IndexedDatasetWriter(const std::string& prefix, int64_t vocab_size)
    : IndexedDatasetWriter(prefix, token_type_for(vocab_size)) {}

IndexedDatasetWriter::IndexedDatasetWriter(const std::string& prefix, TokenType type)
    : prefix_(prefix),
      type_(type),
      bin_(checked_target(prefix + ".bin")),
      idx_(checked_target(prefix + ".idx")) {
    TRIREME_CHECK(type != TokenType::u32, "a type that the format has a code for");
}

void IndexedDatasetWriter::add_sequence(std::span<const int32_t> tokens) {
    TRIREME_CHECK(tokens.size() <= static_cast<size_t>(std::numeric_limits<int32_t>::max()),
                  "a sequence of less than 2^31 tokens");
    pack_tokens(tokens, type_, raw_);
    bin_.write(raw_.data(), raw_.size());
    lengths_.push_back(static_cast<int32_t>(tokens.size()));
    n_tokens_ += static_cast<int64_t>(tokens.size());
}

void IndexedDatasetWriter::end_document() {
    documents_.push_back(static_cast<int64_t>(lengths_.size()));
}

void IndexedDatasetWriter::add_document(std::span<const int32_t> tokens) {
    add_sequence(tokens);
    end_document();
}

void IndexedDatasetWriter::write_index() {
    const uint64_t version = IndexFormat::kVersion;
    const auto code = static_cast<uint8_t>(type_);
    const uint64_t n_sequences = lengths_.size();
    const uint64_t n_entries = documents_.size();
    idx_.write(IndexFormat::kMagic.data(), IndexFormat::kMagic.size());
    idx_.write(&version, sizeof version);
    idx_.write(&code, sizeof code);
    idx_.write(&n_sequences, sizeof n_sequences);
    idx_.write(&n_entries, sizeof n_entries);
    idx_.write(lengths_.data(), lengths_.size() * sizeof(int32_t));
    int64_t pointer = 0;
    for (const int32_t length : lengths_) {
        idx_.write(&pointer, sizeof pointer);
        pointer += length * size_of(type_);
    }
    idx_.write(documents_.data(), documents_.size() * sizeof(int64_t));
}

void IndexedDatasetWriter::finish() {
    if (documents_.back() != static_cast<int64_t>(lengths_.size())) end_document();
    write_index();
    bin_.sync();
    idx_.sync();
    // Without its index the old .bin is no dataset, so no crash can pair old and new files.
    if (::unlink(idx_.path().c_str()) != 0 && errno != ENOENT) {
        throw Error(ExitCode::output_busy,
                    "cannot replace " + idx_.path() + ": " + std::strerror(errno));
    }
    bin_.publish();
    idx_.publish();
}

}  // namespace trireme
