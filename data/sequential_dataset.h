#pragma once

#include <cstdint>
#include <memory>

#include "data/sample_source.h"
#include "data/token_source.h"

namespace trireme {

// A dataset, or a share of its sequences, once, in file order, for evaluation: windows of
// sequence_length tokens, each token but the first is a label exactly once. The last window may be
// partial: token 0 and label kIgnoredLabel fill it up. Windows run over document ends.
// Error(bad_data) as from open_tokens and sequences_of, and for one token, which has no label.
std::unique_ptr<SampleSource> make_sequential_dataset(const DataSourceOptions& source,
                                                      int64_t sequence_length, int64_t vocab_size,
                                                      const DatasetShare& share = {});

}  // namespace trireme
