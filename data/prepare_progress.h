#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/document_stream.h"
#include "data/prepare.h"
#include "data/resumable_dataset_writer.h"

namespace trireme {

// How far a preparation has come: what PREFIX.partial holds, so that a killed one can go on.
struct PrepareProgress {
    struct PartState {
        ResumableDatasetWriter::State writer;
        PrepareCounts counts;
        bool has_files = false;
    };

    std::string fingerprint;  // of all options and inputs that the output depends on
    DocumentPosition position;
    int64_t skipped_lines = 0;
    std::vector<PartState> parts;
};

std::string progress_path(const std::string& output);

// Durable when it returns. Error(io).
void write_progress(const std::string& output, const PrepareProgress& progress);

// Durable when it returns; no such file is fine. Error(io).
void remove_progress(const std::string& output);

// Nothing when there is no file, it cannot be understood, has another fingerprint or number of
// parts, or a file that it builds on is missing or too short.
std::optional<PrepareProgress> read_progress(const std::string& output,
                                             const std::string& fingerprint,
                                             const std::vector<std::string>& prefixes,
                                             TokenType type);

}  // namespace trireme
