#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/dataset_manifest.h"

namespace trireme {

// Datasets of which every byte is on the disk, under its own name or still as PREFIX.*.partial.
// Noted in OUTPUT.partial before the first file gets its name, so that a preparation that is killed
// among the renames can be finished without its inputs.
struct FinishedDatasets {
    std::string fingerprint;  // of all options and inputs that the output depends on
    std::vector<DatasetManifest> parts;
};

// Durable when it returns. Error(io).
void write_finished(const std::string& output, const FinishedDatasets& finished);

// Nothing when there is no such note, it cannot be understood, or it has another fingerprint or
// number of parts.
std::optional<FinishedDatasets> read_finished(const std::string& output,
                                              const std::string& fingerprint, size_t n_parts);

// Gives the datasets' files the names that they lack. Reads all of them first, and does nothing but
// answer false when one is missing or does not have its checksum. Error(output_busy) when another
// process is writing them.
bool publish_finished(const std::vector<std::string>& prefixes, const FinishedDatasets& finished);

}  // namespace trireme
