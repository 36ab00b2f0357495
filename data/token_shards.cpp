#include "data/token_shards.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "data/stored_tokens.h"

namespace trireme {
namespace {

constexpr int64_t kHeaderBytes = 1024;
constexpr int32_t kGpt2Mark = 20240520;
constexpr int32_t kLlama3Mark = 20240801;
constexpr int32_t kChoicesMark = 20240522;

constexpr int64_t kMostInSequence = int64_t{1} << 30;  // offsets in it are int32
constexpr size_t kMostOpen = 256;                      // systems allow a process about 1024 files

[[noreturn]] void fail(const std::string& path, const std::string& found,
                       const std::string& expected) {
    throw Error(ExitCode::bad_data, path + ": found " + found + ", expected " + expected);
}

bool begins_with_mark(const InputFile& file) {
    int32_t mark = 0;
    if (file.size() < static_cast<int64_t>(sizeof mark)) return false;
    file.read(0, &mark, sizeof mark);
    return mark == kGpt2Mark || mark == kLlama3Mark || mark == kChoicesMark;
}

}  // namespace

bool has_llmc_mark(const std::string& path) {
    try {
        return begins_with_mark(InputFile(path));
    } catch (const Error&) {
        return false;
    }
}

TokenShards::TokenShards(std::string name, const std::vector<std::string>& paths, DataFormat format)
    : name_(std::move(name)), format_(format) {
    TRIREME_CHECK(format == DataFormat::nanogpt || format == DataFormat::llmc,
                  "a format without an index");
    shards_.reserve(paths.size());
    for (const std::string& path : paths) add(path);
    if (n_tokens_ == 0) {
        throw Error(ExitCode::bad_data,
                    name_ + " holds no token: the corpus is empty, expected at least one");
    }
}

void TokenShards::add(const std::string& path) {
    InputFile file(path);
    Shard shard{.path = path, .file = std::nullopt, .first = n_tokens_};
    const TokenType type = format_ == DataFormat::llmc ? read_header(file, shard) : TokenType::u16;
    const int64_t item = size_of(type);
    const int64_t bytes = file.size() - shard.header_bytes;
    if (format_ == DataFormat::nanogpt) {
        // No text of GPT-2's begins like that: as a token the mark's first half is above its ids.
        if (begins_with_mark(file)) {
            fail(path, "llm.c's mark at byte 0",
                 "uint16 tokens and nothing else; format: llmc reads files with a header");
        }
        if (bytes % item != 0) {
            fail(path, std::to_string(bytes) + " bytes",
                 "an even number, because nanoGPT's tokens are uint16; the file is cut off or has "
                 "another format");
        }
        shard.tokens = bytes / item;
    } else if (bytes != shard.tokens * item) {
        fail(path, std::to_string(file.size()) + " bytes",
             std::to_string(kHeaderBytes + shard.tokens * item) + " for the " +
                 std::to_string(shard.tokens) + " tokens of type " + std::string(name_of(type)) +
                 " that its header announces; the file is cut off or damaged");
    }
    if (!shards_.empty() && type != type_) {
        fail(path, "tokens of type " + std::string(name_of(type)),
             std::string(name_of(type_)) + " as in " + shards_.front().path +
                 "; give files of different models as datasets of their own");
    }
    type_ = type;
    for (int64_t left = shard.tokens; left > 0;) {
        const int64_t length = std::min(left, kMostInSequence);
        starts_.push_back(n_tokens_);
        lengths_.push_back(static_cast<int32_t>(length));
        n_tokens_ += length;
        left -= length;
    }
    if (shards_.size() < kMostOpen) shard.file.emplace(std::move(file));
    shards_.push_back(std::move(shard));
}

TokenType TokenShards::read_header(const InputFile& file, Shard& shard) const {
    if (file.size() < kHeaderBytes) {
        fail(file.path(), std::to_string(file.size()) + " bytes",
             "at least llm.c's header of " + std::to_string(kHeaderBytes));
    }
    std::array<int32_t, 3> header{};
    file.read(0, header.data(), sizeof header);
    const auto [mark, version, tokens] = header;
    if (mark == kChoicesMark) {
        fail(file.path(), "llm.c's multiple-choice data",
             "text to train on (mark 20240520 or 20240801); eval --choices reads JSONL");
    }
    if (mark != kGpt2Mark && mark != kLlama3Mark) {
        fail(file.path(), "the mark " + std::to_string(mark) + " at byte 0",
             "20240520 or 20240801, llm.c's token files for GPT-2 and Llama 3");
    }
    const int32_t expected = mark == kGpt2Mark ? 1 : 7;
    if (version != expected) {
        fail(file.path(), "version " + std::to_string(version) + " at byte 4",
             std::to_string(expected) + " with the mark " + std::to_string(mark));
    }
    if (tokens < 0) {
        fail(file.path(), std::to_string(tokens) + " tokens at byte 8", "0 or more");
    }
    shard.tokens = tokens;
    shard.header_bytes = kHeaderBytes;
    return mark == kGpt2Mark ? TokenType::u16 : TokenType::u32;
}

int64_t TokenShards::inner_documents(int64_t position, int64_t count,
                                     std::span<int32_t> begins) const {
    if (count < 2) return 0;
    // Each token before a possible begin, in the place of that begin.
    const auto before = begins.first(static_cast<size_t>(count - 1));
    read(position, before);
    int64_t n = 0;
    for (int64_t i = 1; i < count; ++i) {
        if (before[static_cast<size_t>(i - 1)] != end_of_text()) continue;
        begins[static_cast<size_t>(n++)] = static_cast<int32_t>(i);
    }
    return n;
}

void TokenShards::read(int64_t position, std::span<int32_t> tokens, int64_t vocab_size) const {
    TRIREME_CHECK(position >= 0 && static_cast<int64_t>(tokens.size()) <= n_tokens_ - position,
                  "tokens inside the dataset");
    const auto after = std::upper_bound(shards_.begin(), shards_.end(), position,
                                        [](int64_t at, const Shard& s) { return at < s.first; });
    for (auto shard = after - 1; !tokens.empty(); ++shard) {
        const int64_t left = shard->first + shard->tokens - position;
        const auto n = std::min<size_t>(tokens.size(), static_cast<size_t>(left));
        read_from(*shard, position - shard->first, tokens.first(n), vocab_size);
        tokens = tokens.subspan(n);
        position += static_cast<int64_t>(n);
    }
}

void TokenShards::read_from(const Shard& shard, int64_t position, std::span<int32_t> tokens,
                            int64_t vocab_size) const {
    if (tokens.empty()) return;
    std::optional<InputFile> opened;
    if (!shard.file) opened.emplace(shard.path);
    const InputFile& file = shard.file ? *shard.file : *opened;
    // That it is nanoGPT's is the word of the user alone.
    const char* as = format_ == DataFormat::nanogpt ? ", read as nanoGPT's uint16," : "";
    read_tokens(file, shard.header_bytes + position * size_of(type_), type_, tokens, vocab_size,
                [&](int64_t index) {
                    return shard.path + ": token " + std::to_string(position + index) + as;
                });
}

}  // namespace trireme
