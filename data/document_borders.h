#pragma once

#include <cstdint>
#include <span>

#include "data/sample_source.h"

namespace trireme {

// Keeps the documents of a sample that was read apart; returns how many begin in it. Labels [T]
// that begin a document get kIgnoredLabel; document_begin [T] gets for each token the index of the
// first token of its document, 0 where that lies before the sample. `room` [T] is overwritten.
// Allocates as SampleSource::document_begins does.
int64_t separate_documents(const SampleSource& source, int64_t sample, std::span<int32_t> labels,
                           std::span<int32_t> document_begin, std::span<int32_t> room);

}  // namespace trireme
