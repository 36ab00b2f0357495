#include "parallel/rank_report.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/format_number.h"

namespace trireme {

namespace {

// Fields are parted by tabs, which no label, host or group has.
class Fields {
public:
    explicit Fields(std::string_view line) : rest_(line) {}

    std::string_view text() {
        const size_t end = rest_.find('\t');
        const std::string_view field = rest_.substr(0, end);
        rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
        return field;
    }
    template <typename T>
    T number() {
        const std::string_view field = text();
        T value{};
        const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
        if (error != std::errc() || end != field.data() + field.size()) {
            throw InternalError("watchdog: a report with '" + std::string(field.substr(0, 40)) +
                                "' where a number was expected");
        }
        return value;
    }
    Queue queue() { return static_cast<Queue>(std::clamp(number<int>(), 0, 2)); }

private:
    std::string_view rest_;
};

std::string clean(std::string text) {
    for (char& c : text) {
        if (c == '\t' || c == '\n' || c == '\r') c = ' ';
    }
    return text;
}

std::string decimal(double value) {
    return format_number("%.3f", value);
}

std::string joined(std::initializer_list<std::string> fields) {
    std::string line;
    for (const std::string& field : fields) line += (line.empty() ? "" : "\t") + clean(field);
    return line + "\n";
}

}  // namespace

const char* name_of(Phase phase) {
    switch (phase) {
        case Phase::start_up:
            return "start-up";
        case Phase::step:
            return "step";
        case Phase::evaluation:
            return "evaluation";
        case Phase::save:
            return "saving";
        case Phase::finish:
            return "finishing";
    }
    return "";
}

Queue queue_of(OperationKind kind) {
    if (kind == OperationKind::send) return Queue::send;
    return kind == OperationKind::recv ? Queue::receive : Queue::collective;
}

const char* name_of(Queue queue) {
    if (queue == Queue::send) return "send";
    return queue == Queue::receive ? "receive" : "collective";
}

const ReportedGroup* RankReport::group(const std::string& key) const {
    const auto found = std::find_if(groups.begin(), groups.end(),
                                    [&](const ReportedGroup& one) { return one.key == key; });
    return found == groups.end() ? nullptr : &*found;
}

const ReportedOperation* RankReport::operation(const std::string& of_group, Queue queue,
                                               uint64_t ticket) const {
    const auto found =
        std::find_if(operations.begin(), operations.end(), [&](const ReportedOperation& one) {
            return one.ticket == ticket && one.queue == queue && one.group == of_group;
        });
    return found == operations.end() ? nullptr : &*found;
}

std::string RankReport::who() const {
    return "rank " + std::to_string(rank) + " on " + host + " (pid " + std::to_string(pid) + ")";
}

std::string RankReport::where() const {
    std::string text = phase == Phase::start_up ? name_of(phase) : "step " + std::to_string(step);
    if (phase != Phase::start_up && phase != Phase::step)
        text += std::string(", ") + name_of(phase);
    if (!action.empty() && action != name_of(phase)) text += ", '" + action + "'";
    return text;
}

std::string to_text(const RankReport& r) {
    std::string text =
        joined({"rank", std::to_string(r.rank), std::to_string(r.pid),
                std::to_string(static_cast<int>(r.phase)), std::to_string(r.step),
                decimal(r.quiet_seconds), decimal(r.limit_seconds), r.host, r.action});
    for (const ReportedGroup& group : r.groups) {
        std::string ranks;
        for (const int rank : group.ranks)
            ranks += (ranks.empty() ? "" : ",") + std::to_string(rank);
        text += joined(
            {"group", std::to_string(group.issued), std::to_string(group.done), ranks, group.key});
    }
    for (const ReportedWait& wait : r.waits) {
        text += joined({"wait", std::to_string(static_cast<int>(wait.queue)),
                        std::to_string(wait.ticket), wait.is_main ? "1" : "0", wait.group});
    }
    for (const ReportedOperation& op : r.operations) {
        text +=
            joined({"operation", std::to_string(static_cast<int>(op.queue)),
                    std::to_string(op.ticket), std::to_string(op.peer), std::to_string(op.bytes),
                    op.is_done ? "1" : "0", decimal(op.age_seconds), op.group, op.what});
    }
    return text;
}

RankReport parse_rank_report(std::string_view text) {
    RankReport report;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        Fields fields(text.substr(0, end));
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
        const std::string_view kind = fields.text();
        if (kind == "rank") {
            report.rank = fields.number<int>();
            report.pid = fields.number<int>();
            report.phase = static_cast<Phase>(std::clamp(fields.number<int>(), 0, kPhases - 1));
            report.step = fields.number<int64_t>();
            report.quiet_seconds = fields.number<double>();
            report.limit_seconds = fields.number<double>();
            report.host = fields.text();
            report.action = fields.text();
        } else if (kind == "group") {
            ReportedGroup& group = report.groups.emplace_back();
            group.issued = fields.number<uint64_t>();
            group.done = fields.number<uint64_t>();
            std::string ranks(fields.text());
            std::replace(ranks.begin(), ranks.end(), ',', '\t');
            const auto members = std::count(ranks.begin(), ranks.end(), '\t') + 1;
            Fields members_of(ranks);
            for (int64_t i = 0; i < members; ++i) group.ranks.push_back(members_of.number<int>());
            group.key = fields.text();
        } else if (kind == "wait") {
            ReportedWait& wait = report.waits.emplace_back();
            wait.queue = fields.queue();
            wait.ticket = fields.number<uint64_t>();
            wait.is_main = fields.text() == "1";
            wait.group = fields.text();
        } else if (kind == "operation") {
            ReportedOperation& op = report.operations.emplace_back();
            op.queue = fields.queue();
            op.ticket = fields.number<uint64_t>();
            op.peer = fields.number<int>();
            op.bytes = fields.number<uint64_t>();
            op.is_done = fields.text() == "1";
            op.age_seconds = fields.number<double>();
            op.group = fields.text();
            op.what = fields.text();
        } else {
            throw InternalError("watchdog: a report with a line of unknown kind");
        }
    }
    return report;
}

}  // namespace trireme
