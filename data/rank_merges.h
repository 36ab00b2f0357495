#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/merge_table.h"

namespace trireme {

// The merges of a vocabulary of ranks, in which any two tokens that are one together may merge:
// only those that some piece can use, which is one a token at most, in the order of the ranks.
// `tokens[id]` are the bytes of each id, the rank at once; empty: none. Checked, as invariants:
// every byte is a token, tokens differ and have at most PieceMerge::kMaxBytes bytes, and ids are
// those of a MergeTable.
std::vector<BpeMerge> merges_of_ranks(const std::vector<std::string>& tokens);

}  // namespace trireme
