#include "data/describe.h"

#include <algorithm>
#include <vector>

#include "core/crc32c.h"
#include "data/indexed_dataset.h"
#include "data/token_shards.h"

namespace trireme {
namespace {

constexpr size_t kChunk = size_t{1} << 20;  // tokens read at a time

// Hands all tokens to `take`, a chunk at a time.
template <typename Take>
void read_all(const TokenSource& corpus, int64_t vocab_size, const TokenProgress& progress,
              const Take& take) {
    const int64_t total = corpus.n_tokens();
    std::vector<int32_t> chunk(static_cast<size_t>(std::min<int64_t>(total, kChunk)));
    for (int64_t done = 0; done < total;) {
        const int64_t n = std::min(total - done, static_cast<int64_t>(chunk.size()));
        const auto tokens = std::span(chunk).first(static_cast<size_t>(n));
        corpus.read(done, tokens, vocab_size);
        take(tokens);
        done += n;
        if (progress) progress(done, total);
    }
}

// Counts documents by their end of text; the last one may lack it, or the first.
void find_documents(const TokenShards& shards, const TokenProgress& progress,
                    DatasetSummary& summary) {
    const int32_t mark = shards.end_of_text();
    summary.end_of_text = mark;
    summary.shortest_sequence = shards.n_tokens();
    int64_t length = 0;  // of the document so far
    const auto end_document = [&] {
        if (length == 0) return;
        ++summary.documents;
        summary.shortest_sequence = std::min(summary.shortest_sequence, length);
        summary.longest_sequence = std::max(summary.longest_sequence, length);
        length = 0;
    };
    read_all(shards, kAnyVocab, progress, [&](std::span<const int32_t> tokens) {
        for (const int32_t token : tokens) {
            const bool is_mark = token == mark;
            if (is_mark && shards.begins_documents()) end_document();
            ++length;
            if (is_mark && !shards.begins_documents()) end_document();
        }
    });
    end_document();
    summary.sequences = summary.documents;
}

}  // namespace

std::string difference(const std::string& path, const DatasetManifest::FileContent& expected,
                       const std::function<void(int64_t)>& on_read) {
    const InputFile file(path);
    if (file.size() != expected.bytes) {
        return path + " has " + std::to_string(file.size()) + " bytes, its manifest says " +
               std::to_string(expected.bytes);
    }
    std::vector<char> chunk(size_t{1} << 20);
    uint32_t crc = 0;
    for (int64_t at = 0; at < file.size(); at += std::ssize(chunk)) {
        const int64_t n = std::min(file.size() - at, std::ssize(chunk));
        file.read(at, chunk.data(), n);
        crc = crc32c(chunk.data(), static_cast<size_t>(n), crc);
        if (on_read) on_read(at + n);
    }
    return crc == expected.checksum ? "" : path + " does not have the checksum of its manifest";
}

std::optional<std::vector<std::string>> compare_with_manifest(const std::string& prefix) {
    const std::optional<DatasetManifest> manifest = read_manifest(prefix);
    if (!manifest) return std::nullopt;
    std::vector<std::string> differences;
    for (const auto& [ending, content] :
         {std::pair{".bin", manifest->bin}, std::pair{".idx", manifest->idx}}) {
        std::string text = difference(prefix + ending, content);
        if (!text.empty()) differences.push_back(std::move(text));
    }
    return differences;
}

DatasetSummary describe_dataset(const DataSourceOptions& source, const TokenProgress& progress) {
    const std::unique_ptr<TokenSource> corpus = open_tokens(source);
    DatasetSummary summary;
    summary.path = source.path;
    summary.format = name_of(format_of(source));
    summary.token_type = name_of(corpus->token_type());
    summary.tokens = corpus->n_tokens();
    summary.bytes = summary.tokens * size_of(corpus->token_type());
    if (const auto* shards = dynamic_cast<const TokenShards*>(corpus.get())) {
        summary.files = static_cast<int64_t>(shards->n_files());
        find_documents(*shards, progress, summary);
        return summary;
    }
    const std::vector<int32_t> lengths = corpus->read_lengths();
    const auto [shortest, longest] = std::minmax_element(lengths.begin(), lengths.end());
    summary.files = 1;
    summary.sequences = corpus->n_sequences();
    summary.documents = dynamic_cast<const IndexedDataset&>(*corpus).n_documents();
    summary.shortest_sequence = *shortest;
    summary.longest_sequence = *longest;
    return summary;
}

int64_t verify_dataset(const DataSourceOptions& source, int64_t vocab_size,
                       const TokenProgress& progress) {
    int32_t largest = 0;
    read_all(*open_tokens(source), vocab_size > 0 ? vocab_size : kAnyVocab, progress,
             [&](std::span<const int32_t> tokens) {
                 largest = std::max(largest, *std::max_element(tokens.begin(), tokens.end()));
             });
    return largest;
}

}  // namespace trireme
