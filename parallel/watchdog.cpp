#include "parallel/watchdog.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <random>
#include <sstream>
#include <utility>

#include "core/error.h"
#include "core/service_thread.h"
#include "parallel/control_group.h"
#include "parallel/frame_socket.h"
#include "parallel/hang_analysis.h"

namespace trireme {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr double kUnseenLimit = 600.0;
constexpr double kLeastLimit = 60.0;
constexpr double kLongestTimes = 10.0;
constexpr milliseconds kConnectPatience{2000};
constexpr double kBetweenQuestions = 1.0;
constexpr milliseconds kComparePatience{3000};
constexpr milliseconds kLeavePatience{500};
constexpr milliseconds kFlushPatience{300};
constexpr size_t kHelloBytes = 256;

double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

std::string random_token() {
    std::random_device device;
    char text[40];
    std::snprintf(text, sizeof text, "%08x%08x%08x%08x", device(), device(), device(), device());
    return text;
}

// Where a rank is to be found: "HOST PORT ADDRESS ADDRESS ...", port 0 where none is watched.
struct Address {
    std::string host;
    uint16_t port = 0;
    std::vector<std::string> addresses;
};

Address parse_address(const std::string& text) {
    std::istringstream in(text);
    Address address;
    in >> address.host >> address.port;
    for (std::string one; in >> one;) address.addresses.push_back(one);
    return address;
}

// What one of the two watching ranks knows about a rank.
struct Watched {
    std::optional<FrameSocket> socket;
    bool known = false;  // has said hello
    bool left = false;   // has taken leave
    bool gone = false;   // its connection broke without
    RankReport last;     // of its last beat: the head only
    double heard = 0;    // when that came
    std::optional<RankReport> answer;
};

}  // namespace

// A rank's thread. Rank 0 and the deputy also collect.
class Watchdog::Watch {
public:
    Watch(Watchdog& owner, World& world, WatchdogOptions options)
        : owner_(owner),
          options_(std::move(options)),
          rank_(world.rank()),
          host_(own_host_name()),
          board_(owner.board_) {
        wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (world.size() > 1) join(world);
        if (collects()) {
            watched_.resize(static_cast<size_t>(world.size()));
            watched_[static_cast<size_t>(rank_)].known = true;
        }
    }
    ~Watch() { close(wake_); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    void run();
    void stop() {
        stop_.store(true);
        wake();
    }
    void leave() {
        leaving_.store(true);
        wake();
        wait_until(left_, kLeavePatience);
    }
    void compare() {
        compare_.store(true);
        wake();
        wait_until(compared_, kComparePatience);
    }

private:
    bool collects() const { return rank_ <= 1; }
    void wake() const {
        const uint64_t one = 1;
        if (write(wake_, &one, sizeof one) < 0) return;  // it is awake
    }
    static void wait_until(const std::atomic<bool>& flag, milliseconds patience) {
        const Clock::time_point limit = Clock::now() + patience;
        while (!flag.load() && Clock::now() < limit) {
            std::this_thread::sleep_for(milliseconds(2));
        }
    }

    void join(World& world);
    void connect_to(int collector, const Address& at);
    void wait_for_events();
    void advance_clock();
    void beat();
    void obey(FrameSocket& from);
    void accept();
    void identify(FrameSocket socket, const std::string& hello);
    void listen_to(Watched& rank);
    void take_frame(Watched& rank, const std::string& frame);
    void look_for_trouble();
    bool is_in_charge() const;
    void look_for_gone();
    bool is_suspicious(const Watched& rank) const;
    bool is_silent(const Watched& rank) const;
    // Beats come whatever a rank works at.
    double silence_limit() const {
        return options_.limit_seconds > 0 ? options_.limit_seconds : kLeastLimit;
    }
    void ask();
    bool all_answered() const;
    std::vector<RankReport> answers() const;
    void judge();
    void end_all(const std::string& message, const std::string& details);
    void say_goodbye();
    RankReport head() const;
    Watched& own() { return watched_[static_cast<size_t>(rank_)]; }

    Watchdog& owner_;
    const WatchdogOptions options_;
    const int rank_;
    const std::string host_;
    ActivityBoard& board_;
    int wake_ = -1;
    std::atomic<bool> stop_{false}, leaving_{false}, left_{false}, compare_{false},
        compared_{false};

    // Seconds in which this thread could have acted: see Watchdog about suspended machines.
    double now_ = 0;
    Clock::time_point looked_at_ = Clock::now();
    uint64_t progress_ = 0;
    double quiet_since_ = 0;
    double last_beat_ = -1e9;
    std::vector<FrameSocket> collectors_;  // rank 0's and the deputy's, without this one's own

    std::string token_;
    std::optional<ListeningSocket> listener_;
    std::vector<FrameSocket> strangers_;  // have not said hello yet
    std::vector<Watched> watched_;        // one a rank
    bool asking_ = false, comparing_ = false, ended_ = false;
    FrameSocket* comparing_for_ = nullptr;  // null: for this rank
    double last_question_ = -1e9;
    double gone_since_ = -1, gone_reported_ = -1;
    int first_gone_ = -1;
};

void Watchdog::Watch::join(World& world) {
    ControlGroup group(world, "watchdog");
    std::string own = host_ + " ";
    if (collects()) {
        try {
            listener_.emplace();
        } catch (const Error&) {
            // The others cannot connect then, which rank 0 reports.
        }
    }
    own += std::to_string(listener_ ? listener_->port() : 0);
    if (listener_) {
        for (const std::string& address : own_addresses()) own += " " + address;
    }
    token_ = group.broadcast(rank_ == 0 ? random_token() : std::string());
    const std::string first = group.broadcast(own, 0);
    const std::string deputy = group.broadcast(own, 1);
    if (rank_ != 0) connect_to(0, parse_address(first));
    if (rank_ != 1) connect_to(1, parse_address(deputy));
    const size_t wanted = collects() ? 1 : 2;
    const double failed = group.largest(collectors_.size() < wanted ? rank_ + 1.0 : 0.0);
    if (failed > 0 && rank_ == 0) {
        options_.report("watchdog: rank " + std::to_string(static_cast<int>(failed) - 1) +
                            " cannot connect to rank 0 or 1 over TCP and is not watched; only the "
                            "communication's own time-out of ten minutes is left for it. Let the "
                            "hosts connect to one another on any port",
                        "");
    }
}

void Watchdog::Watch::connect_to(int, const Address& at) {
    if (at.port == 0) return;
    std::vector<std::string> addresses = at.addresses;
    if (at.host == host_) addresses.insert(addresses.begin(), "127.0.0.1");
    std::optional<FrameSocket> socket = FrameSocket::connect(addresses, at.port, kConnectPatience);
    if (!socket) return;
    socket->send("hello " + token_ + " " + std::to_string(rank_));
    collectors_.push_back(std::move(*socket));
}

void Watchdog::Watch::run() {
    while (!stop_.load() && !ended_) {
        wait_for_events();
        advance_clock();
        if (leaving_.load() && !left_.load()) say_goodbye();
        beat();
        for (FrameSocket& collector : collectors_) obey(collector);
        if (ended_) return;
        if (collects()) {
            accept();
            for (Watched& rank : watched_) listen_to(rank);
            if (!leaving_.load()) look_for_trouble();
        }
    }
    if (!ended_) say_goodbye();
}

void Watchdog::Watch::wait_for_events() {
    std::vector<pollfd> on{{wake_, POLLIN, 0}};
    const auto add = [&](const FrameSocket& socket) {
        if (!socket.is_open()) return;
        const short events = static_cast<short>(POLLIN | (socket.has_unsent() ? POLLOUT : 0));
        on.push_back({socket.descriptor(), events, 0});
    };
    if (listener_) on.push_back({listener_->descriptor(), POLLIN, 0});
    for (const FrameSocket& socket : collectors_) add(socket);
    for (const FrameSocket& socket : strangers_) add(socket);
    for (const Watched& rank : watched_) {
        if (rank.socket) add(*rank.socket);
    }
    const int pause = std::max(1, static_cast<int>(options_.beat.count() / 2));
    poll(on.data(), on.size(), pause);
    uint64_t rings = 0;
    while (read(wake_, &rings, sizeof rings) > 0) continue;
}

void Watchdog::Watch::advance_clock() {
    const Clock::time_point now = Clock::now();
    const double most = std::chrono::duration<double>(options_.beat).count();
    now_ += std::min(seconds_between(looked_at_, now), most);
    looked_at_ = now;
    if (const uint64_t progress = board_.progress(); progress != progress_) {
        progress_ = progress;
        quiet_since_ = now_;
    }
}

RankReport Watchdog::Watch::head() const {
    RankReport report;
    report.rank = rank_;
    report.host = host_;
    report.pid = static_cast<int>(getpid());
    report.phase = board_.phase();
    report.step = board_.step();
    report.action = board_.action();
    report.quiet_seconds = now_ - quiet_since_;
    report.limit_seconds = owner_.limit_seconds();
    return report;
}

void Watchdog::Watch::beat() {
    if (collects()) {
        own().last = head();
        own().heard = now_;
    }
    for (FrameSocket& collector : collectors_) collector.flush();
    if (left_.load()) return;
    if (now_ - last_beat_ < std::chrono::duration<double>(options_.beat).count()) return;
    last_beat_ = now_;
    const std::string text = "beat\n" + to_text(head());
    for (FrameSocket& collector : collectors_) {
        if (!collector.has_unsent()) collector.send(text);
    }
}

// What a collecting rank tells this one.
void Watchdog::Watch::obey(FrameSocket& from) {
    if (compare_.load() && !compared_.load() && &from == &collectors_.front() && rank_ != 0) {
        compare_.store(false);
        from.send("compare");
    }
    from.receive();
    while (const std::optional<std::string> frame = from.next_frame()) {
        if (*frame == "ask") {
            RankReport full = board_.report();
            RankReport report = head();
            report.groups = std::move(full.groups);
            report.waits = std::move(full.waits);
            report.operations = std::move(full.operations);
            from.send("answer\n" + to_text(report));
        } else if (*frame == "compared") {
            compared_.store(true);
        } else if (*frame == "end") {
            ended_ = true;
            options_.end(ExitCode::hang);
            return;
        }
    }
}

void Watchdog::Watch::accept() {
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
void Watchdog::Watch::identify(FrameSocket socket, const std::string& hello) {
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
    one.last.limit_seconds = kUnseenLimit;
    one.heard = now_;
    one.known = true;
}

void Watchdog::Watch::listen_to(Watched& rank) {
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
    if (!rank.gone || leaving_.load()) return;
    if (first_gone_ < 0) {
        first_gone_ = rank.last.rank;
        gone_since_ = now_;
    }
}

void Watchdog::Watch::take_frame(Watched& rank, const std::string& frame) {
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

bool Watchdog::Watch::is_silent(const Watched& rank) const {
    return rank.known && !rank.left && !rank.gone && now_ - rank.heard > silence_limit();
}

bool Watchdog::Watch::is_suspicious(const Watched& rank) const {
    return rank.known && !rank.left && !rank.gone &&
           (is_silent(rank) ||
            now_ - rank.heard + rank.last.quiet_seconds > rank.last.limit_seconds);
}

// The deputy acts only when rank 0 does not.
bool Watchdog::Watch::is_in_charge() const {
    return rank_ == 0 || watched_[0].gone || is_silent(watched_[0]);
}

void Watchdog::Watch::look_for_trouble() {
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
void Watchdog::Watch::look_for_gone() {
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

void Watchdog::Watch::ask() {
    asking_ = true;
    last_question_ = now_;
    for (Watched& rank : watched_) {
        rank.answer.reset();
        if (rank.socket) rank.socket->send("ask");
    }
    RankReport full = board_.report();
    RankReport report = head();
    report.groups = std::move(full.groups);
    report.waits = std::move(full.waits);
    report.operations = std::move(full.operations);
    own().answer = std::move(report);
}

bool Watchdog::Watch::all_answered() const {
    if (comparing_ && now_ - last_question_ > 2.0) return true;
    return std::all_of(watched_.begin(), watched_.end(), [this](const Watched& rank) {
        return rank.answer || !rank.known || rank.left || rank.gone || is_silent(rank);
    });
}

std::vector<RankReport> Watchdog::Watch::answers() const {
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

void Watchdog::Watch::judge() {
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

void Watchdog::Watch::end_all(const std::string& message, const std::string& details) {
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

void Watchdog::Watch::say_goodbye() {
    if (left_.load()) return;
    for (FrameSocket& collector : collectors_) collector.send("bye");
    // The collecting ranks hear it even when both are leaving at once: they only close afterwards.
    left_.store(true);
}

Watchdog::Watchdog(World& world, WatchdogOptions options)
    : board_(world.activity()),
      fixed_limit_(options.limit_seconds),
      start_limit_(options.start_limit_seconds) {
    phase_begin_ = Clock::now();
    board_.set_main_thread();
    watch_ = std::make_unique<Watch>(*this, world, std::move(options));
    thread_ = start_service_thread("watchdog", [this] { watch_->run(); });
}

Watchdog::~Watchdog() {
    watch_->stop();
    thread_.join();
}

void Watchdog::enter(Phase phase, int64_t step) {
    const Clock::time_point now = Clock::now();
    std::atomic<double>& longest = longest_[static_cast<size_t>(board_.phase())];
    longest.store(std::max(longest.load(), seconds_between(phase_begin_, now)));
    phase_begin_ = now;
    board_.enter(phase, step);
}

void Watchdog::saw(Phase phase, double seconds) {
    std::atomic<double>& longest = longest_[static_cast<size_t>(phase)];
    longest.store(std::max(longest.load(), seconds));
}

double Watchdog::limit_seconds() const {
    if (board_.phase() == Phase::start_up) return start_limit_;
    if (fixed_limit_ > 0) return fixed_limit_;
    const auto seen = [this](Phase phase) { return longest_[static_cast<size_t>(phase)].load(); };
    const double longest =
        std::max({seen(Phase::step), seen(Phase::evaluation), seen(Phase::save)});
    // A save goes on beside the training: the time until it must be waited for says nothing of it.
    const bool is_unknown = seen(board_.phase()) <= 0 || board_.phase() == Phase::save ||
                            board_.phase() == Phase::finish;
    return std::max(is_unknown ? kUnseenLimit : kLeastLimit, kLongestTimes * longest);
}

void Watchdog::leave() {
    watch_->leave();
}

void Watchdog::compare() {
    watch_->compare();
}

}  // namespace trireme
