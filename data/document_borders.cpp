#include "data/document_borders.h"

#include <algorithm>

namespace trireme {

int64_t separate_documents(const SampleSource& source, int64_t sample, std::span<int32_t> labels,
                           std::span<int32_t> document_begin, std::span<int32_t> room) {
    const int64_t n = source.document_begins(sample, room);
    auto from = document_begin.begin();
    int32_t first = 0;
    for (const int32_t next : room.first(static_cast<size_t>(n))) {
        const auto to = document_begin.begin() + std::min<int64_t>(next, source.sequence_length());
        std::fill(from, to, first);
        labels[static_cast<size_t>(next) - 1] = kIgnoredLabel;
        from = to;
        first = next;
    }
    std::fill(from, document_begin.end(), first);
    return n;
}

}  // namespace trireme
