#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "data/sample_order.h"

namespace trireme {

// Orders that take fewer bytes are made by each process for itself.
inline constexpr int64_t kLeastSharedBytes = int64_t{64} << 20;

// The order that `make` gives, in a file of `folder` (made if missing) that all processes of the
// machine map, so that it lies in memory once and may be dropped from it. The first process that
// comes makes the file, under a lock that ends with it; the others wait for the lock and map what
// they find, once its checksum is right. A file that is damaged or cut off is made again. `key` is
// all that the order depends on, `bytes` about its size. Without a folder, and for few bytes, it is
// just what `make` gives. Error(io), Error(output_busy) when the folder cannot be written.
SampleOrder shared_sample_order(const std::string& folder, const std::string& key, int64_t bytes,
                                const std::function<SampleOrder()>& make,
                                int64_t least_bytes = kLeastSharedBytes);

}  // namespace trireme
