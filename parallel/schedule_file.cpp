#include "parallel/schedule_file.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>

#include "core/error.h"

namespace trireme {

namespace {

constexpr std::string_view kBlank = " \t\r";
constexpr int kMostChunks = 1024;

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(kBlank);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
}

// Cuts off and returns what comes before the separator, or all.
std::string_view take_until(std::string_view& text, std::string_view separators) {
    const size_t end = std::min(text.find_first_of(separators), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return part;
}

std::optional<int> number_of(std::string_view text) {
    int number = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || failure != std::errc() || end != text.data() + text.size() || number < 0) {
        return std::nullopt;
    }
    return number;
}

std::optional<ActionKind> kind_of(char letter) {
    switch (letter) {
        case 'F':
            return ActionKind::forward;
        case 'B':
            return ActionKind::backward;
        case 'I':
            return ActionKind::backward_input;
        case 'W':
            return ActionKind::backward_weight;
    }
    return std::nullopt;
}

class Parser {
public:
    Parser(const std::string& name, int stages, int micro_batches) : name_(name) {
        program_.stages = stages;
        program_.micro_batches = micro_batches;
    }

    ScheduleProgram parse(std::string_view text) {
        constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // some spreadsheets begin so
        if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
        while (!text.empty()) {
            ++row_;
            const std::string_view line = trimmed(take_until(text, "\n"));
            if (line.starts_with('#')) {
                read_comment(line.substr(1));
            } else if (!line.empty()) {
                read_rank(line);
            }
        }
        if (program_.ranks.size() != static_cast<size_t>(program_.stages)) {
            fail("found " + std::to_string(program_.ranks.size()) + " rows of actions, expected " +
                 std::to_string(program_.stages) + ", one a stage");
        }
        const std::string error = find_schedule_error(program_, [&](int rank, size_t index) {
            const size_t r = static_cast<size_t>(rank);
            // A deadlock may name the end of a list.
            const int column = index < columns_[r].size() ? columns_[r][index] : 0;
            return place(rows_[r], column) + " (rank " + std::to_string(rank) + ")";
        });
        if (!error.empty()) fail(error);
        return std::move(program_);
    }

private:
    [[noreturn]] void fail(const std::string& why) const {
        throw Error(ExitCode::config, "schedule file " + name_ + ": " + why);
    }
    static std::string place(int row, int column) {
        return "row " + std::to_string(row) + ", column " + std::to_string(column);
    }

    void read_comment(std::string_view comment) {
        std::string_view words = trimmed(comment);
        for (std::string_view rest = words; !rest.empty(); rest = trimmed(rest)) {
            if (take_until(rest, kBlank).find('=') == std::string_view::npos) return;
        }
        for (; !words.empty(); words = trimmed(words)) read_setting(take_until(words, kBlank));
    }

    void read_setting(std::string_view setting) {
        const std::string here = "row " + std::to_string(row_) + ": '" + std::string(setting) + "'";
        if (!program_.ranks.empty()) fail(here + ": settings come before the first row of actions");
        std::string_view value = setting;
        const std::string_view key = take_until(value, "=");
        if (key == "placement") {
            if (value != "loop" && value != "vee") fail(here + ": expected loop or vee");
            program_.placement = value == "vee" ? Placement::vee : Placement::loop;
            return;
        }
        const bool is_chunks = key == "chunks";
        if (!is_chunks && key != "wrap_receives_ahead") {
            fail(here + ": unknown setting; expected placement, chunks or wrap_receives_ahead");
        }
        const int most = is_chunks ? kMostChunks : program_.micro_batches;
        const std::optional<int> number = number_of(value);
        if (!number || *number < 1 || *number > most) {
            fail(here + ": expected a whole number from 1 to " + std::to_string(most));
        }
        (is_chunks ? program_.chunks : program_.wrap_receives_ahead) = *number;
    }

    void read_rank(std::string_view line) {
        if (program_.ranks.size() == static_cast<size_t>(program_.stages)) {
            fail("row " + std::to_string(row_) + " is one too many; expected " +
                 std::to_string(program_.stages) + " rows of actions, one a stage");
        }
        std::vector<Action>& actions = program_.ranks.emplace_back();
        std::vector<int>& columns = columns_.emplace_back();
        rows_.push_back(row_);
        for (int column = 1; !line.empty(); ++column) {
            const std::string_view cell = trimmed(take_until(line, ","));
            if (cell.empty()) continue;
            actions.push_back(read_action(cell, column));
            columns.push_back(column);
        }
    }

    Action read_action(std::string_view cell, int column) const {
        const std::string here = place(row_, column) + ": '" + std::string(cell) + "'";
        const std::optional<ActionKind> kind = kind_of(cell.front());
        std::string_view rest = cell.substr(1);
        const bool has_chunk = rest.find('.') != std::string_view::npos;
        const std::optional<int> micro_batch = number_of(take_until(rest, "."));
        const std::optional<int> chunk = has_chunk ? number_of(rest) : 0;
        if (!kind || !micro_batch || !chunk) {
            fail(here +
                 " is no action; expected F, B, I or W, a micro-batch and perhaps .chunk, as in F3 "
                 "or W0.1");
        }
        if (*micro_batch >= program_.micro_batches) {
            fail(here + ": expected a micro-batch below " + std::to_string(program_.micro_batches));
        }
        if (*chunk >= program_.chunks) {
            fail(here + ": expected a chunk below " + std::to_string(program_.chunks) +
                 "; a line '# chunks=N' sets their number");
        }
        return {*kind, *chunk, *micro_batch};
    }

    const std::string& name_;
    ScheduleProgram program_;
    int row_ = 0;
    // Where each rank's actions stand.
    std::vector<int> rows_;
    std::vector<std::vector<int>> columns_;
};

}  // namespace

ScheduleProgram parse_schedule(std::string_view text, const std::string& name, int stages,
                               int micro_batches) {
    return Parser(name, stages, micro_batches).parse(text);
}

ScheduleProgram read_schedule_file(const std::string& path, int stages, int micro_batches) {
    std::ifstream file(path, std::ios::binary);
    std::string text;
    if (file) text.assign(std::istreambuf_iterator<char>(file), {});
    if (!file) {
        throw Error(ExitCode::config, "schedule file " + path + ": cannot be read: " +
                                          std::strerror(errno) + "; check pipeline.schedule");
    }
    return parse_schedule(text, path, stages, micro_batches);
}

std::string cell_of(const Action& action) {
    std::string cell(1, "FBIW"[static_cast<size_t>(action.kind)]);
    cell += std::to_string(action.micro_batch);
    if (action.chunk > 0) cell += "." + std::to_string(action.chunk);
    return cell;
}

std::string write_schedule(const ScheduleProgram& program) {
    std::string text = "#";
    text += program.placement == Placement::vee ? " placement=vee" : " placement=loop";
    text += " chunks=" + std::to_string(program.chunks);
    text += " wrap_receives_ahead=" + std::to_string(program.wrap_receives_ahead) + "\n";
    for (const std::vector<Action>& actions : program.ranks) {
        const char* separator = "";
        for (const Action& action : actions) {
            text += separator;
            text += cell_of(action);
            separator = ",";
        }
        text += "\n";
    }
    return text;
}

}  // namespace trireme
