#pragma once

#include <set>
#include <vector>

#include "parallel/rank_report.h"

namespace trireme {

// Which ranks of a run wait for which, as their reports tell: the input of find_hang. Refers to the
// reports, of all ranks in rank order, which must outlive it.
class WaitGraph {
public:
    struct Edge {
        int to;                    // who has not come yet
        const ReportedWait* wait;  // to what
    };

    explicit WaitGraph(const std::vector<RankReport>& ranks);

    // Those that a rank waits for; none when it does not answer. Where its main thread waits, other
    // threads' waits do not count.
    const std::vector<Edge>& edges(int rank) const { return edges_[static_cast<size_t>(rank)]; }

    // Where a rank's waiting ends: of the ranks that it waits for, directly or not, itself among
    // them, those that wait for nobody; where there are none, those that wait for themselves.
    const std::set<int>& roots(int rank) const;

private:
    struct Roots {
        std::set<int> idle;     // wait for nobody
        std::set<int> circles;  // wait for themselves, directly or not
    };

    std::vector<Edge> edges_of(int rank) const;
    void add_edges(const RankReport& report, const ReportedWait& wait,
                   std::vector<Edge>& edges) const;
    void find_components();
    void add_component(const std::vector<int>& members);

    const std::vector<RankReport>& ranks_;
    std::vector<std::vector<Edge>> edges_;  // of each rank
    // Ranks that all wait for one another are a component; the same is the root of all of them.
    std::vector<int> component_;  // of each rank
    std::vector<Roots> roots_;    // of each component
};

}  // namespace trireme
