#include "parallel/wait_graph.h"

#include <algorithm>
#include <utility>

namespace trireme {

WaitGraph::WaitGraph(const std::vector<RankReport>& ranks) : ranks_(ranks) {
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
        edges_.push_back(edges_of(static_cast<int>(rank)));
    }
    find_components();
}

const std::set<int>& WaitGraph::roots(int rank) const {
    const auto component = static_cast<size_t>(component_[static_cast<size_t>(rank)]);
    const Roots& roots = roots_[component];
    return roots.idle.empty() ? roots.circles : roots.idle;
}

std::vector<WaitGraph::Edge> WaitGraph::edges_of(int rank) const {
    const RankReport& report = ranks_[static_cast<size_t>(rank)];
    std::vector<Edge> edges;
    if (!report.answers) return edges;
    const bool main_waits = std::any_of(report.waits.begin(), report.waits.end(),
                                        [](const ReportedWait& wait) { return wait.is_main; });
    for (const ReportedWait& wait : report.waits) {
        if (wait.is_main == main_waits) add_edges(report, wait, edges);
    }
    return edges;
}

void WaitGraph::add_edges(const RankReport& report, const ReportedWait& wait,
                          std::vector<Edge>& edges) const {
    const ReportedGroup* group = report.group(wait.group);
    if (!group) return;
    const ReportedOperation* operation = report.operation(wait.group, wait.queue, wait.ticket);
    for (const int member : group->ranks) {
        if (member == report.rank || member < 0 || member >= static_cast<int>(ranks_.size())) {
            continue;
        }
        if (wait.queue != Queue::collective) {
            if (!operation || operation->peer == member) edges.push_back({member, &wait});
            continue;
        }
        const RankReport& other = ranks_[static_cast<size_t>(member)];
        const ReportedGroup* theirs = other.group(wait.group);
        if (!other.answers || !theirs || theirs->issued < wait.ticket) {
            edges.push_back({member, &wait});
        }
    }
}

// Strongly connected components in one walk (Tarjan 1972), each after those that it waits for. With
// a stack of its own: a chain of waits may be as long as there are ranks.
void WaitGraph::find_components() {
    struct Visit {
        int rank;
        size_t next_edge;
    };
    constexpr int kNone = -1;
    const size_t n = edges_.size();
    component_.assign(n, kNone);
    std::vector<int> number(n, kNone);  // in the order of first visits
    std::vector<int> lowest(n, kNone);  // number that a rank leads back to, of no component yet
    std::vector<int> open;              // visited, of no component yet
    int visited = 0;
    for (size_t start = 0; start < n; ++start) {
        if (number[start] != kNone) continue;
        std::vector<Visit> path{{static_cast<int>(start), 0}};
        while (!path.empty()) {
            Visit& visit = path.back();
            const auto rank = static_cast<size_t>(visit.rank);
            if (visit.next_edge == 0 && number[rank] == kNone) {
                number[rank] = lowest[rank] = visited++;
                open.push_back(visit.rank);
            }
            if (visit.next_edge < edges_[rank].size()) {
                const auto to = static_cast<size_t>(edges_[rank][visit.next_edge++].to);
                if (number[to] == kNone) {
                    path.push_back({static_cast<int>(to), 0});
                } else if (component_[to] == kNone) {
                    lowest[rank] = std::min(lowest[rank], number[to]);
                }
                continue;
            }
            if (lowest[rank] == number[rank]) {
                const auto first = std::find(open.rbegin(), open.rend(), visit.rank).base() - 1;
                add_component({first, open.end()});
                open.erase(first, open.end());
            }
            path.pop_back();
            if (path.empty()) continue;
            int& before = lowest[static_cast<size_t>(path.back().rank)];
            before = std::min(before, lowest[rank]);
        }
    }
}

void WaitGraph::add_component(const std::vector<int>& members) {
    const int component = static_cast<int>(roots_.size());
    for (const int rank : members) component_[static_cast<size_t>(rank)] = component;
    Roots roots;
    std::set<int> added{component};
    for (const int rank : members) {
        if (edges(rank).empty()) roots.idle.insert(rank);
        if (members.size() > 1) roots.circles.insert(rank);
        for (const Edge& edge : edges(rank)) {
            const int other = component_[static_cast<size_t>(edge.to)];
            if (!added.insert(other).second) continue;
            const Roots& theirs = roots_[static_cast<size_t>(other)];
            roots.idle.insert(theirs.idle.begin(), theirs.idle.end());
            roots.circles.insert(theirs.circles.begin(), theirs.circles.end());
        }
    }
    roots_.push_back(std::move(roots));
}

}  // namespace trireme
