#include "parallel/hang_analysis.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "core/format_number.h"

namespace trireme {

namespace {

std::string seconds_text(double seconds) {
    return format_number("%.1f s", seconds);
}

// "data/0,2" -> "group 'data' (ranks 0, 2)"
std::string group_text(const std::string& key) {
    const size_t slash = key.find('/');
    std::string ranks = slash == std::string::npos ? "" : key.substr(slash + 1);
    for (size_t at = ranks.find(','); at != std::string::npos; at = ranks.find(',', at + 2)) {
        ranks.insert(at + 1, " ");
    }
    return "group '" + key.substr(0, slash) + "' (ranks " + ranks + ")";
}

std::string wait_text(const RankReport& rank, const ReportedWait& wait) {
    const ReportedOperation* operation = rank.operation(wait.group, wait.queue, wait.ticket);
    std::string text = std::string(name_of(wait.queue)) + " " + std::to_string(wait.ticket);
    if (operation) text += " (" + operation->what + ")";
    return text + " of " + group_text(wait.group);
}

struct Edge {
    int to;
    const ReportedWait* wait;
};

class WaitsFor {
public:
    explicit WaitsFor(const std::vector<RankReport>& ranks) : ranks_(ranks) {
        for (size_t r = 0; r < ranks.size(); ++r) edges_.push_back(edges_of(static_cast<int>(r)));
    }

    const std::vector<Edge>& edges(int rank) const { return edges_[static_cast<size_t>(rank)]; }

    // Ranks that all others this one waits for, directly or not, wait for in the end.
    std::set<int> roots(int from) const {
        const std::set<int> reached = reachable(from);
        std::set<int> roots;
        for (const int rank : reached) {
            if (edges(rank).empty()) roots.insert(rank);
        }
        if (!roots.empty()) return roots;
        // A circle: those that come back to themselves.
        for (const int rank : reached) {
            for (const Edge& edge : edges(rank)) {
                if (reachable(edge.to).count(rank) != 0) roots.insert(rank);
            }
        }
        return roots;
    }

private:
    std::set<int> reachable(int from) const {
        std::set<int> reached;
        std::vector<int> next{from};
        while (!next.empty()) {
            const int rank = next.back();
            next.pop_back();
            if (!reached.insert(rank).second) continue;
            for (const Edge& edge : edges(rank)) next.push_back(edge.to);
        }
        return reached;
    }

    std::vector<Edge> edges_of(int rank) const {
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

    void add_edges(const RankReport& report, const ReportedWait& wait,
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

    const std::vector<RankReport>& ranks_;
    std::vector<std::vector<Edge>> edges_;
};

std::string culprit_text(const RankReport& rank, bool waits) {
    if (!rank.answers) {
        return rank.who() + " does not answer: nothing was heard of it for " +
               seconds_text(rank.quiet_seconds) +
               "; the process is stopped, or its host or network is down. Its last action: " +
               rank.where();
    }
    return rank.who() + (waits ? " stands" : " did not arrive: it stands") + " at " + rank.where() +
           " since " + seconds_text(rank.quiet_seconds);
}

}  // namespace

std::optional<HangVerdict> find_hang(const std::vector<RankReport>& reports) {
    const WaitsFor graph(reports);
    std::set<int> culprits;
    for (const RankReport& report : reports) {
        if (report.quiet_seconds <= report.limit_seconds) continue;
        const std::set<int> roots = graph.roots(report.rank);
        const bool stand = std::all_of(roots.begin(), roots.end(), [&](int rank) {
            const RankReport& root = reports[static_cast<size_t>(rank)];
            return root.quiet_seconds > root.limit_seconds;
        });
        if (stand) culprits.insert(roots.begin(), roots.end());
    }
    if (culprits.empty()) return std::nullopt;

    HangVerdict verdict;
    verdict.culprits.assign(culprits.begin(), culprits.end());
    for (const int culprit : verdict.culprits) {
        const RankReport& report = reports[static_cast<size_t>(culprit)];
        const bool waits = !graph.edges(culprit).empty();
        verdict.text += (verdict.text.empty() ? "" : "; ") + culprit_text(report, waits);
        int waiting = 0;
        std::string first;
        for (const RankReport& other : reports) {
            for (const Edge& edge : graph.edges(other.rank)) {
                if (edge.to != culprit) continue;
                if (++waiting == 1) {
                    first = "rank " + std::to_string(other.rank) + " waits for it in " +
                            wait_text(other, *edge.wait);
                }
                break;
            }
        }
        if (waiting > 0) verdict.text += "; " + first;
        if (waiting > 1) verdict.text += ", and " + std::to_string(waiting - 1) + " more wait";
        if (waits) {
            const Edge& edge = graph.edges(culprit).front();
            verdict.text += "; it waits for rank " + std::to_string(edge.to) + " in " +
                            wait_text(report, *edge.wait);
        } else if (report.answers && !report.waits.empty()) {
            verdict.text += "; it waits for " + wait_text(report, report.waits.front()) +
                            ", at which all members have arrived";
        }
    }
    return verdict;
}

std::optional<HangVerdict> find_mismatch(const std::vector<RankReport>& reports) {
    using Place = std::pair<std::string, uint64_t>;  // group, ticket
    std::map<Place, std::pair<const RankReport*, const ReportedOperation*>> seen;
    std::optional<HangVerdict> verdict;
    uint64_t lowest = 0;
    for (const RankReport& report : reports) {
        for (const ReportedOperation& operation : report.operations) {
            if (operation.queue != Queue::collective) continue;
            const auto [at, is_new] =
                seen.try_emplace({operation.group, operation.ticket}, &report, &operation);
            const auto& [other, theirs] = at->second;
            if (is_new || theirs->what == operation.what) continue;
            // The first is the cause of those that follow.
            if (verdict && operation.ticket >= lowest) continue;
            lowest = operation.ticket;
            verdict = HangVerdict{
                {other->rank, report.rank},
                "collective " + std::to_string(operation.ticket) + " of " +
                    group_text(operation.group) + " differs: " + other->who() + " issued " +
                    theirs->what + " at " + other->where() + ", " + report.who() + " issued " +
                    operation.what + " at " + report.where() +
                    "; all members must issue the same collectives in the same order"};
        }
    }
    return verdict;
}

std::string describe_ranks(const std::vector<RankReport>& reports) {
    std::string text;
    for (const RankReport& rank : reports) {
        text += rank.who() + (rank.answers ? ": " : ": does not answer; last heard of at ") +
                rank.where() + ", no progress for " + seconds_text(rank.quiet_seconds) +
                " (limit " + seconds_text(rank.limit_seconds) + ")\n";
        for (const ReportedWait& wait : rank.waits) {
            text += "  waits for " + wait_text(rank, wait) +
                    (wait.is_main ? "\n" : " (a thread beside the one that trains)\n");
        }
        for (const ReportedGroup& group : rank.groups) {
            text += "  " + group_text(group.key) + ": " + std::to_string(group.issued) +
                    " collectives issued, " + std::to_string(group.done) + " done\n";
        }
        if (!rank.operations.empty()) text += "  the last operations, oldest first:\n";
        for (const ReportedOperation& op : rank.operations) {
            char line[96];
            std::snprintf(line, sizeof line, "    -%9.3f s  %-6s  %-10s %8llu  %12llu bytes  ",
                          op.age_seconds, op.is_done ? "done" : "issued", name_of(op.queue),
                          static_cast<unsigned long long>(op.ticket),
                          static_cast<unsigned long long>(op.bytes));
            text += line + op.what;
            if (op.peer >= 0) {
                text += (op.queue == Queue::send ? " to rank " : " from rank ") +
                        std::to_string(op.peer);
            }
            text += " of " + group_text(op.group) + "\n";
        }
        text += "\n";
    }
    return text;
}

}  // namespace trireme
