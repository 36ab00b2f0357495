#pragma once

#include <span>
#include <string>
#include <vector>

#include "data/data_options.h"

namespace trireme {

// What a dataset's files are recognised by: their number and order, their sizes and a checksum of
// the first, the last and 62 blocks of 4 KiB between. Cheap however large they are; a change
// elsewhere of the same size goes unnoticed. Where the files lie does not matter. Throws Error
// (bad_data or io).
std::string dataset_fingerprint(const DataSourceOptions& source);

// One for each source, in order.
std::vector<std::string> dataset_fingerprints(std::span<const DataSourceOptions> sources);

}  // namespace trireme
