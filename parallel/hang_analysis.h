#pragma once

#include <optional>
#include <string>
#include <vector>

#include "parallel/rank_report.h"

namespace trireme {

// Why a run stands still.
struct HangVerdict {
    std::vector<int> culprits;  // ranks; several when they wait for one another
    std::string text;           // who, where, since when, and who waits for it in what
};

// Follows who waits for whom, from every rank that has made no progress for longer than its limit
// to those that wait for nobody. Nothing when the ranks at the root still get on, or none is over
// its limit: long work of one rank is no hang. reports: of all ranks, in rank order; one that does
// not answer waits for nobody.
std::optional<HangVerdict> find_hang(const std::vector<RankReport>& reports);

// Members that issued different collectives, or collectives of other sizes, under the same number
// of the same group: "collective 7 of group data differs: rank 0 ... issued ..., rank 2 ...".
// Nothing when all that is still remembered agrees.
std::optional<HangVerdict> find_mismatch(const std::vector<RankReport>& reports);

// Everything that the ranks said, for a file.
std::string describe_ranks(const std::vector<RankReport>& reports);

}  // namespace trireme
