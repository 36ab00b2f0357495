#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/dataset_manifest.h"
#include "data/indexed_dataset.h"
#include "data/output_file.h"

namespace trireme {

// What a ResumableDatasetWriter has written.
struct DatasetWriterState {
    int64_t documents = 0;
    int64_t tokens = 0;
    uint32_t checksum = 0;  // CRC-32C of the .bin so far
    int32_t largest_id = -1;
};

// Writes PREFIX.bin and PREFIX.idx with one sequence a document, in memory that does not grow. A
// run that was killed can go on from its last checkpoint(): until publish() the tokens stand in
// PREFIX.bin.partial and the documents' lengths in PREFIX.lengths.partial. Destroyed before, it
// removes both, and leaves a former dataset of that name as it was.
class ResumableDatasetWriter {
public:
    using State = DatasetWriterState;

    // Goes on from `state`. Errors as from OutputFile; one that is thrown here leaves what there is
    // to go on from.
    ResumableDatasetWriter(const std::string& prefix, TokenType type, const State& state = {});

    // Error(bad_data) on an id the type cannot hold, Error(io) when the disk refuses.
    void add_document(std::span<const int32_t> tokens);

    // Waits until all is on the disk; from now on a run can begin with this state.
    State checkpoint();

    // The partial files stay when this is destroyed.
    void keep();

    // Writes the index and waits until all is on the disk. Fills in what it knows of `manifest`.
    void finish(DatasetManifest& manifest);
    // Gives the finished files their names, the index last, and writes the manifest; that of a
    // former dataset is removed before.
    void publish(const DatasetManifest& manifest);

private:
    void write_index(DatasetManifest& manifest);

    std::string prefix_;
    TokenType type_;
    State state_;
    OutputFile bin_;
    OutputFile lengths_;
    std::optional<OutputFile> idx_;
    std::vector<std::byte> packed_;
};

}  // namespace trireme
