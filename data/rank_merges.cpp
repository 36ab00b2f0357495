#include "data/rank_merges.h"

#include <algorithm>

#include "core/error.h"
#include "data/piece_merge.h"

namespace trireme {

// Trying all ways to cut each token would give several times as many merges, most of them useless:
// Bpe::keep_needed_merges says why. The one that a token needs joins the two parts that its own
// bytes have become when nothing but the token itself is left to make. Those parts are shorter
// tokens, whose merges are known when the tokens are taken by length.
std::vector<BpeMerge> merges_of_ranks(const std::vector<std::string>& tokens) {
    std::vector<int32_t> by_length;
    PieceMerge::Bytes bytes;
    bytes.ids.fill(-1);
    bytes.pairs.assign(size_t{256} * 256, MergeTable::kNone);
    for (size_t id = 0; id < tokens.size(); ++id) {
        const std::string& token = tokens[id];
        TRIREME_CHECK(token.size() <= PieceMerge::kMaxBytes, "tokens as short as a piece");
        if (token.size() == 1) {
            bytes.ids[static_cast<unsigned char>(token[0])] = static_cast<int32_t>(id);
        } else if (!token.empty()) {
            by_length.push_back(static_cast<int32_t>(id));
        }
    }
    TRIREME_CHECK(*std::min_element(bytes.ids.begin(), bytes.ids.end()) >= 0,
                  "a token for every byte");
    std::stable_sort(by_length.begin(), by_length.end(), [&](int32_t a, int32_t b) {
        return tokens[static_cast<size_t>(a)].size() < tokens[static_cast<size_t>(b)].size();
    });

    std::vector<BpeMerge> merges;
    merges.reserve(by_length.size());
    MergeTable table(by_length.size());
    std::vector<int32_t> parts;
    for (const int32_t id : by_length) {
        const std::string& token = tokens[static_cast<size_t>(id)];
        PieceMerge merging;
        merging.begin(token, bytes);
        while (merging.step(table)) continue;
        parts.clear();
        merging.append_to(parts);
        if (parts.size() != 2) continue;
        merges.push_back({parts[0], parts[1], id, id});
        table.add(parts[0], parts[1], id, id);
        if (token.size() == 2) {
            const auto left = static_cast<unsigned char>(token[0]);
            bytes.pairs[size_t{left} << 8 | static_cast<unsigned char>(token[1])] = id;
        }
    }
    std::sort(merges.begin(), merges.end(),
              [](const BpeMerge& a, const BpeMerge& b) { return a.rank < b.rank; });
    return merges;
}

}  // namespace trireme
