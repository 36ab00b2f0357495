#include "data/resumable_dataset_writer.h"

#include <algorithm>
#include <limits>

#include "core/crc32c.h"
#include "core/error.h"
#include "data/indexed_dataset_writer.h"
#include "data/input_file.h"

namespace trireme {
namespace {

constexpr int64_t kChunkDocuments = int64_t{1} << 16;

}  // namespace

ResumableDatasetWriter::ResumableDatasetWriter(const std::string& prefix, TokenType type,
                                               const State& state)
    : prefix_(checked_target(prefix + ".idx").substr(0, prefix.size())),
      type_(type),
      state_(state),
      bin_(checked_target(prefix + ".bin"), state.tokens * size_of(type)),
      lengths_(prefix + ".lengths", state.documents * static_cast<int64_t>(sizeof(int32_t))) {
    // Both are open: that one could not be was no reason to lose the other.
    bin_.keep(false);
    lengths_.keep(false);
}

void ResumableDatasetWriter::add_document(std::span<const int32_t> tokens) {
    TRIREME_CHECK(tokens.size() <= static_cast<size_t>(std::numeric_limits<int32_t>::max()),
                  "a sequence of less than 2^31 tokens");
    pack_tokens(tokens, type_, packed_);
    bin_.write(packed_.data(), packed_.size());
    const auto length = static_cast<int32_t>(tokens.size());
    lengths_.write(&length, sizeof length);
    state_.checksum = crc32c(packed_.data(), packed_.size(), state_.checksum);
    state_.documents += 1;
    state_.tokens += length;
    for (const int32_t id : tokens) state_.largest_id = std::max(state_.largest_id, id);
}

ResumableDatasetWriter::State ResumableDatasetWriter::checkpoint() {
    bin_.sync();
    lengths_.sync();
    return state_;
}

void ResumableDatasetWriter::keep() {
    bin_.keep();
    lengths_.keep();
    if (idx_) idx_->keep();
}

void ResumableDatasetWriter::write_index(DatasetManifest& manifest) {
    OutputFile& idx = idx_.emplace(prefix_ + ".idx");
    const auto write = [&](const void* from, size_t bytes) {
        idx.write(from, bytes);
        manifest.idx.checksum = crc32c(from, bytes, manifest.idx.checksum);
        manifest.idx.bytes += static_cast<int64_t>(bytes);
    };
    const uint64_t version = IndexFormat::kVersion;
    const auto code = static_cast<uint8_t>(type_);
    const auto n_sequences = static_cast<uint64_t>(state_.documents);
    const uint64_t n_entries = n_sequences + 1;
    write(IndexFormat::kMagic.data(), IndexFormat::kMagic.size());
    write(&version, sizeof version);
    write(&code, sizeof code);
    write(&n_sequences, sizeof n_sequences);
    write(&n_entries, sizeof n_entries);

    // Lengths, then the byte each document begins at, then each document's first sequence.
    const InputFile lengths(lengths_.partial_path());
    std::vector<int32_t> chunk;
    std::vector<int64_t> values;
    int64_t pointer = 0;
    for (int pass = 0; pass < 3; ++pass) {
        for (int64_t first = 0; first < state_.documents; first += kChunkDocuments) {
            const int64_t n = std::min(kChunkDocuments, state_.documents - first);
            chunk.resize(static_cast<size_t>(n));
            values.clear();
            if (pass < 2) {
                lengths.read(first * static_cast<int64_t>(sizeof(int32_t)), chunk.data(),
                             n * static_cast<int64_t>(sizeof(int32_t)));
            }
            if (pass == 0) {
                write(chunk.data(), chunk.size() * sizeof(int32_t));
                continue;
            }
            for (int64_t i = 0; i < n; ++i) {
                values.push_back(pass == 1 ? pointer : first + i);
                if (pass == 1) pointer += chunk[static_cast<size_t>(i)] * size_of(type_);
            }
            write(values.data(), values.size() * sizeof(int64_t));
        }
    }
    write(&state_.documents, sizeof state_.documents);
    idx.sync();
}

void ResumableDatasetWriter::finish(DatasetManifest& manifest) {
    checkpoint();
    manifest.token_type = name_of(type_);
    manifest.documents = state_.documents;
    manifest.tokens = state_.tokens;
    manifest.largest_id = state_.largest_id;
    manifest.bin = {state_.tokens * size_of(type_), state_.checksum};
    manifest.idx = {};
    write_index(manifest);
}

void ResumableDatasetWriter::publish(const DatasetManifest& manifest) {
    TRIREME_CHECK(idx_, "a dataset that is finished");
    // Without its index the old .bin is no dataset, so no crash can pair old and new files.
    remove_former(manifest_path(prefix_));
    remove_former(idx_->path());
    bin_.publish();
    idx_->publish();
    write_manifest(prefix_, manifest);
    lengths_.keep(false);
}

}  // namespace trireme
