#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset_manifest.h"

namespace trireme {

// Datasets of which every byte is on the disk, under its own name or still as PREFIX.*.partial.
// Noted in OUTPUT.partial before the first file gets its name, so that a preparation that is killed
// among the renames can be finished without reading its inputs again; they must still be there, as
// they were, since only by them the note is known to be theirs.
struct FinishedDatasets {
    std::string fingerprint;  // of all options and inputs that the output depends on
    std::vector<DatasetManifest> parts;
};

// Called now and then while finished files are compared with their checksums, with bytes.
using CheckProgress = std::function<void(int64_t done, int64_t total)>;

// Durable when it returns. Error(io).
void write_finished(const std::string& output, const FinishedDatasets& finished);

// Nothing when there is no such note, it cannot be understood, or it has another fingerprint or
// number of parts.
std::optional<FinishedDatasets> read_finished(const std::string& output,
                                              const std::string& fingerprint, size_t n_parts);

// Gives the datasets that read_finished() tells of the names that their files lack, and removes the
// note. Holds the note and all partial files meanwhile: Error(output_busy), before anything is
// changed or created, when another process writes or names them. Reads all files first, and answers
// nothing, and changes nothing, when one is missing or does not have its checksum.
std::optional<FinishedDatasets> publish_finished(const std::string& output,
                                                 const std::string& fingerprint,
                                                 const std::vector<std::string>& prefixes,
                                                 const CheckProgress& progress = {});

}  // namespace trireme
