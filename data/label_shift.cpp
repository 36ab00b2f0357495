#include "data/label_shift.h"

#include <algorithm>
#include <array>

namespace trireme {

void read_shifted(const TokenSource& corpus, int64_t position, int64_t count, int64_t at,
                  std::span<int32_t> tokens, std::span<int32_t> labels, int64_t vocab_size) {
    const auto length = static_cast<int64_t>(tokens.size());
    std::array<int32_t, 4096> chunk;
    for (int64_t done = 0; done < count;) {
        const int64_t n = std::min(count - done, static_cast<int64_t>(chunk.size()));
        corpus.read(position + done, std::span(chunk).first(static_cast<size_t>(n)), vocab_size);
        const int64_t first = at + done;
        const int64_t skip = first == 0 ? 1 : 0;
        std::copy_n(chunk.begin(), std::min(n, length - first), tokens.begin() + first);
        std::copy_n(chunk.begin() + skip, n - skip, labels.begin() + (first + skip - 1));
        done += n;
    }
}

}  // namespace trireme
