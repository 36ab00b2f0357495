#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/operation.h"

namespace trireme {

// What part of a run a rank is in.
enum class Phase : uint8_t { start_up, step, evaluation, save, finish };
inline constexpr int kPhases = 5;
const char* name_of(Phase phase);

// A communicator's three queues, of which each counts its own tickets.
enum class Queue : uint8_t { collective, send, receive };
Queue queue_of(OperationKind kind);
const char* name_of(Queue queue);

struct ReportedGroup {
    std::string key;
    std::vector<int> ranks;  // in the world
    uint64_t issued = 0;     // collectives
    uint64_t done = 0;
};

struct ReportedWait {
    std::string group;  // key
    Queue queue = Queue::collective;
    uint64_t ticket = 0;
    bool is_main = false;  // of the thread that trains
};

struct ReportedOperation {
    std::string group;  // key
    Queue queue = Queue::collective;
    uint64_t ticket = 0;
    int peer = -1;  // world rank of the other side of a transfer
    uint64_t bytes = 0;
    bool is_done = false;
    double age_seconds = 0;  // since it was issued
    std::string what;        // "all_reduce sum of 257 F32 'grad norm'"
};

// Everything that a rank can say about itself, for finding out why a run stands still.
struct RankReport {
    int rank = 0;
    std::string host;
    int pid = 0;
    Phase phase = Phase::start_up;
    int64_t step = 0;
    std::string action;
    double quiet_seconds = 0;  // without any progress
    double limit_seconds = 0;  // what of that is too long
    bool answers = true;       // false: this is only the last that was heard of it
    std::vector<ReportedGroup> groups;
    std::vector<ReportedWait> waits;
    std::vector<ReportedOperation> operations;  // the latest, in the order of issue

    const ReportedGroup* group(const std::string& key) const;
    const ReportedOperation* operation(const std::string& group, Queue queue,
                                       uint64_t ticket) const;
    // "rank 3 on node7 (pid 4711)"
    std::string who() const;
    // "step 17, 'forward of micro-batch 2'"
    std::string where() const;
};

// A text of lines, and back. Whoever is on the other side of a connection wrote it: parsing throws
// Error (internal) for what is no report.
std::string to_text(const RankReport& report);
RankReport parse_rank_report(std::string_view text);

}  // namespace trireme
