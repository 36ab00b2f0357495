#include "parallel/hang_analysis.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <span>
#include <tuple>
#include <utility>

#include "core/format_number.h"
#include "parallel/wait_graph.h"

namespace trireme {

namespace {

constexpr size_t kMostTold = 8;  // culprits in a message; the details are of all ranks

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

// Who waits for a rank.
struct Waiters {
    int count = 0;
    int first = -1;                      // the lowest rank
    const ReportedWait* wait = nullptr;  // its
};

std::vector<Waiters> waiters_of_ranks(const WaitGraph& graph, size_t n_ranks) {
    std::vector<Waiters> waiters(n_ranks);
    std::vector<int> last(n_ranks, -1);  // a rank may wait for another in several ways
    for (int rank = 0; rank < static_cast<int>(n_ranks); ++rank) {
        for (const WaitGraph::Edge& edge : graph.edges(rank)) {
            const auto to = static_cast<size_t>(edge.to);
            if (std::exchange(last[to], rank) == rank) continue;
            if (waiters[to].count++ == 0) {
                waiters[to].first = rank;
                waiters[to].wait = edge.wait;
            }
        }
    }
    return waiters;
}

}  // namespace

std::optional<HangVerdict> find_hang(const std::vector<RankReport>& reports) {
    const WaitGraph graph(reports);
    std::set<int> culprits;
    for (const RankReport& report : reports) {
        if (report.quiet_seconds <= report.limit_seconds) continue;
        const std::set<int>& roots = graph.roots(report.rank);
        const bool stand = std::all_of(roots.begin(), roots.end(), [&](int rank) {
            const RankReport& root = reports[static_cast<size_t>(rank)];
            return root.quiet_seconds > root.limit_seconds;
        });
        if (stand) culprits.insert(roots.begin(), roots.end());
    }
    if (culprits.empty()) return std::nullopt;

    HangVerdict verdict;
    verdict.culprits.assign(culprits.begin(), culprits.end());
    const std::vector<Waiters> waiters = waiters_of_ranks(graph, reports.size());
    const size_t n_told = std::min(verdict.culprits.size(), kMostTold);
    for (const int culprit : std::span(verdict.culprits).first(n_told)) {
        const RankReport& report = reports[static_cast<size_t>(culprit)];
        const bool waits = !graph.edges(culprit).empty();
        verdict.text += (verdict.text.empty() ? "" : "; ") + culprit_text(report, waits);
        const Waiters& others = waiters[static_cast<size_t>(culprit)];
        if (others.count > 0) {
            verdict.text += "; rank " + std::to_string(others.first) + " waits for it in " +
                            wait_text(reports[static_cast<size_t>(others.first)], *others.wait);
        }
        if (others.count > 1) {
            verdict.text += ", and " + std::to_string(others.count - 1) + " more wait";
        }
        if (waits) {
            const WaitGraph::Edge& edge = graph.edges(culprit).front();
            verdict.text += "; it waits for rank " + std::to_string(edge.to) + " in " +
                            wait_text(report, *edge.wait);
        } else if (report.answers && !report.waits.empty()) {
            verdict.text += "; it waits for " + wait_text(report, report.waits.front()) +
                            ", at which all members have arrived";
        }
    }
    if (n_told < verdict.culprits.size()) {
        verdict.text +=
            "; and " + std::to_string(verdict.culprits.size() - n_told) + " more ranks like these";
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
