#include "parallel/watch_collector.h"

#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>
#include <utility>

#include "core/error.h"
#include "parallel/hang_analysis.h"

namespace trireme {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr double kBetweenQuestions = 1.0;
constexpr milliseconds kFlushPatience{300};
constexpr size_t kHelloBytes = 256;

}  // namespace

WatchCollector::WatchCollector(int rank, int size, const WatchdogOptions& options,
                               OwnReport own_report)
    : rank_(rank),
      options_(options),
      own_report_(std::move(own_report)),
      watched_(static_cast<size_t>(size)) {
    own().known = true;
    if (size == 1) return;
    try {
        listener_.emplace();
    } catch (const Error&) {
        // The others cannot connect then, which rank 0 reports.
    }
}

void WatchCollector::poll_on(std::vector<pollfd>& descriptors) const {
    if (listener_) descriptors.push_back({listener_->descriptor(), POLLIN, 0});
    for (const FrameSocket& socket : strangers_) socket.poll_on(descriptors);
    for (const Watched& rank : watched_) {
        if (rank.socket) rank.socket->poll_on(descriptors);
    }
}

bool WatchCollector::work(double now, bool is_leaving) {
    now_ = now;
    is_leaving_ = is_leaving;
    own().last = own_report_(false);
    own().heard = now_;
    accept();
    for (Watched& rank : watched_) listen_to(rank);
    if (!is_leaving_) look_for_trouble();
    return ended_;
}

void WatchCollector::accept() {
    while (std::optional<FrameSocket> socket = listener_ ? listener_->accept() : std::nullopt) {
        socket->limit_frames(kHelloBytes);
        strangers_.push_back(std::move(*socket));
    }
    for (size_t i = strangers_.size(); i-- > 0;) {
        strangers_[i].receive();
        const std::optional<std::string> hello = strangers_[i].next_frame();
        if (!hello && strangers_[i].is_open()) continue;
        FrameSocket socket = std::move(strangers_[i]);
        strangers_.erase(strangers_.begin() + static_cast<std::ptrdiff_t>(i));
        if (hello) identify(std::move(socket), *hello);
    }
}

// Anybody can connect; only who knows the token is listened to.
void WatchCollector::identify(FrameSocket socket, const std::string& hello) {
    std::istringstream in(hello);
    std::string word, token;
    int rank = -1;
    in >> word >> token >> rank;
    if (word != "hello" || token != token_ || rank < 0 || rank == rank_ ||
        rank >= static_cast<int>(watched_.size()) || watched_[static_cast<size_t>(rank)].known) {
        return;
    }
    Watched& one = watched_[static_cast<size_t>(rank)];
    socket.limit_frames(size_t{4} << 20);
    one.socket = std::move(socket);
    one.last.rank = rank;
    one.last.limit_seconds = kUnseenWatchLimit;
    one.heard = now_;
    one.known = true;
}

void WatchCollector::listen_to(Watched& rank) {
    if (!rank.socket) return;
    rank.socket->flush();
    rank.socket->receive();
    while (const std::optional<std::string> frame = rank.socket->next_frame()) {
        take_frame(rank, *frame);
    }
    if (rank.socket->is_open()) return;
    rank.gone = !rank.left;
    if (comparing_for_ == &*rank.socket) comparing_for_ = nullptr;
    rank.socket.reset();
    if (!rank.gone || is_leaving_) return;
    if (first_gone_ < 0) {
        first_gone_ = rank.last.rank;
        gone_since_ = now_;
    }
}

void WatchCollector::take_frame(Watched& rank, const std::string& frame) {
    const size_t end = frame.find('\n');
    const std::string kind = frame.substr(0, end);
    rank.heard = now_;
    if (kind == "bye") {
        rank.left = true;
    } else if (kind == "compare") {
        comparing_ = true;
        comparing_for_ = &*rank.socket;
        if (!asking_) ask();
    } else if (end != std::string::npos && (kind == "beat" || kind == "answer")) {
        try {
            RankReport report = parse_rank_report(std::string_view(frame).substr(end + 1));
            report.rank = rank.last.rank;
            if (kind == "answer") rank.answer = report;
            report.groups.clear();
            report.waits.clear();
            report.operations.clear();
            rank.last = std::move(report);
        } catch (const Error&) {
            rank.left = true;  // it is another program's; not watched
        }
    }
}

// Beats come whatever a rank works at.
double WatchCollector::silence_limit() const {
    return options_.limit_seconds > 0 ? options_.limit_seconds : kLeastWatchLimit;
}

bool WatchCollector::is_silent(const Watched& rank) const {
    return is_watched(rank) && now_ - rank.heard > silence_limit();
}

bool WatchCollector::is_suspicious(const Watched& rank) const {
    return is_watched(rank) && (is_silent(rank) || now_ - rank.heard + rank.last.quiet_seconds >
                                                       rank.last.limit_seconds);
}

// The deputy acts only when rank 0 does not.
bool WatchCollector::is_in_charge() const {
    return rank_ == 0 || watched_[0].gone || is_silent(watched_[0]);
}

void WatchCollector::look_for_trouble() {
    if (compare_.load() && rank_ == 0) {
        compare_.store(false);
        comparing_ = true;
        comparing_for_ = nullptr;
        if (!asking_) ask();
    }
    look_for_gone();
    if (ended_) return;
    if (asking_) {
        if (all_answered()) judge();
        return;
    }
    if (!is_in_charge() || now_ - last_question_ < kBetweenQuestions) return;
    if (std::any_of(watched_.begin(), watched_.end(),
                    [this](const Watched& rank) { return is_suspicious(rank); })) {
        ask();
    }
}

// A launcher usually ends the others at once when a process has died; the grace is for that.
void WatchCollector::look_for_gone() {
    if (first_gone_ < 0 || !is_in_charge()) return;
    const Watched& first = watched_[static_cast<size_t>(first_gone_)];
    const std::string message =
        first.last.who() +
        " is gone: its connection broke without a word (killed, out of memory "
        "or its host failed; the launcher may know the signal). Its last action: " +
        first.last.where();
    const double since = now_ - gone_since_;
    if (gone_reported_ < 0 && since >= 0.2) {
        gone_reported_ = now_;
        options_.report(message, "");
    }
    if (gone_reported_ >= 0 && since * 1000 >= static_cast<double>(options_.gone_grace.count())) {
        end_all("", "");
    }
}

void WatchCollector::ask() {
    asking_ = true;
    last_question_ = now_;
    for (Watched& rank : watched_) {
        rank.answer.reset();
        if (rank.socket) rank.socket->send("ask");
    }
    own().answer = own_report_(true);
}

bool WatchCollector::all_answered() const {
    if (comparing_ && now_ - last_question_ > 2.0) return true;
    return std::all_of(watched_.begin(), watched_.end(), [this](const Watched& rank) {
        return rank.answer || !is_watched(rank) || is_silent(rank);
    });
}

std::vector<RankReport> WatchCollector::answers() const {
    std::vector<RankReport> reports;
    for (size_t i = 0; i < watched_.size(); ++i) {
        const Watched& rank = watched_[i];
        RankReport report = rank.answer ? *rank.answer : rank.last;
        report.rank = static_cast<int>(i);
        report.answers = rank.answer.has_value();
        if (!report.answers) {
            report.quiet_seconds = is_silent(rank) ? now_ - rank.heard : 0;
            report.limit_seconds = silence_limit();
        }
        reports.push_back(std::move(report));
    }
    return reports;
}

void WatchCollector::judge() {
    asking_ = false;
    last_question_ = now_;
    const std::vector<RankReport> reports = answers();
    const std::optional<HangVerdict> differs = find_mismatch(reports);
    if (comparing_) {
        comparing_ = false;
        if (differs) options_.report("communication: " + differs->text, describe_ranks(reports));
        if (comparing_for_) comparing_for_->send("compared");
        if (!comparing_for_) compared_.store(true);
        return;
    }
    const std::optional<HangVerdict> hang = find_hang(reports);
    if (!hang) return;
    end_all("the run stands still: " + (differs ? differs->text : hang->text),
            describe_ranks(reports));
}

void WatchCollector::end_all(const std::string& message, const std::string& details) {
    ended_ = true;
    if (!message.empty()) options_.report(message, details);
    for (Watched& rank : watched_) {
        if (rank.socket) rank.socket->send("end");
    }
    const Clock::time_point limit = Clock::now() + kFlushPatience;
    const auto unsent = [](const Watched& rank) {
        return rank.socket && rank.socket->has_unsent();
    };
    while (std::any_of(watched_.begin(), watched_.end(), unsent) && Clock::now() < limit) {
        for (Watched& rank : watched_) {
            if (rank.socket) rank.socket->flush();
        }
        std::this_thread::sleep_for(milliseconds(5));
    }
    options_.end(ExitCode::hang);
}

}  // namespace trireme
