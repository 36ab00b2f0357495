#include "parallel/watchdog.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>

#include "core/host_name.h"
#include "core/random_id.h"
#include "core/service_thread.h"
#include "parallel/control_group.h"
#include "parallel/frame_socket.h"
#include "parallel/watch_collector.h"

namespace trireme {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr double kLongestTimes = 10.0;
constexpr milliseconds kConnectPatience{2000};
constexpr milliseconds kComparePatience{3000};
constexpr milliseconds kLeavePatience{500};

double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
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
        if (rank_ <= 1) {
            collector_.emplace(rank_, world.size(), options_,
                               [this](bool all) { return own_report(all); });
        }
        if (world.size() > 1) join(world);
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
        wait_until([this] { return left_.load(); }, kLeavePatience);
    }
    void compare() {
        if (rank_ == 0)
            collector_->compare();
        else
            compare_.store(true);
        wake();
        wait_until([this] { return rank_ == 0 ? collector_->compared() : compared_.load(); },
                   kComparePatience);
    }

private:
    void wake() const {
        const uint64_t one = 1;
        if (write(wake_, &one, sizeof one) < 0) return;  // it is awake
    }
    template <typename Condition>
    static void wait_until(const Condition& is_met, milliseconds patience) {
        const Clock::time_point limit = Clock::now() + patience;
        while (!is_met() && Clock::now() < limit) {
            std::this_thread::sleep_for(milliseconds(2));
        }
    }

    void join(World& world);
    void connect_to(const Address& at, const std::string& token);
    void wait_for_events();
    void advance_clock();
    void beat();
    void obey(FrameSocket& from);
    void say_goodbye();
    RankReport own_report(bool all) const;

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
    std::vector<FrameSocket> to_collectors_;   // rank 0's and the deputy's, without this one's own
    std::optional<WatchCollector> collector_;  // on the two
    bool ended_ = false;
};

void Watchdog::Watch::join(World& world) {
    ControlGroup group(world, "watchdog");
    std::string own = host_ + " ";
    const uint16_t port = collector_ ? collector_->port() : uint16_t{0};
    own += std::to_string(port);
    if (port != 0) {
        for (const std::string& address : own_addresses()) own += " " + address;
    }
    const std::string token = group.broadcast(rank_ == 0 ? random_id(32) : std::string());
    if (collector_) collector_->expect_token(token);
    const std::string first = group.broadcast(own, 0);
    const std::string deputy = group.broadcast(own, 1);
    if (rank_ != 0) connect_to(parse_address(first), token);
    if (rank_ != 1) connect_to(parse_address(deputy), token);
    const size_t wanted = collector_ ? 1 : 2;
    const double failed = group.largest(to_collectors_.size() < wanted ? rank_ + 1.0 : 0.0);
    if (failed > 0 && rank_ == 0) {
        using std::chrono::minutes;
        const auto left = std::chrono::duration_cast<minutes>(kCommunicationTimeout).count();
        options_.report("watchdog: rank " + std::to_string(static_cast<int>(failed) - 1) +
                            " cannot connect to rank 0 or 1 over TCP and is not watched; only the "
                            "communication's own time-out of " +
                            std::to_string(left) +
                            " minutes is left for it. Let the hosts connect to one another on any "
                            "port",
                        "");
    }
}

void Watchdog::Watch::connect_to(const Address& at, const std::string& token) {
    if (at.port == 0) return;
    std::vector<std::string> addresses = at.addresses;
    if (at.host == host_) addresses.insert(addresses.begin(), "127.0.0.1");
    std::optional<FrameSocket> socket = FrameSocket::connect(addresses, at.port, kConnectPatience);
    if (!socket) return;
    socket->send("hello " + token + " " + std::to_string(rank_));
    to_collectors_.push_back(std::move(*socket));
}

void Watchdog::Watch::run() {
    while (!stop_.load() && !ended_) {
        wait_for_events();
        advance_clock();
        if (leaving_.load() && !left_.load()) say_goodbye();
        beat();
        for (FrameSocket& collector : to_collectors_) obey(collector);
        if (ended_) return;
        if (collector_) ended_ = collector_->work(now_, leaving_.load());
    }
    if (!ended_) say_goodbye();
}

void Watchdog::Watch::wait_for_events() {
    std::vector<pollfd> on{{wake_, POLLIN, 0}};
    for (const FrameSocket& socket : to_collectors_) socket.poll_on(on);
    if (collector_) collector_->poll_on(on);
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

RankReport Watchdog::Watch::own_report(bool all) const {
    RankReport report = all ? board_.report() : RankReport();
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
    for (FrameSocket& collector : to_collectors_) collector.flush();
    if (left_.load()) return;
    if (now_ - last_beat_ < std::chrono::duration<double>(options_.beat).count()) return;
    last_beat_ = now_;
    const std::string text = "beat\n" + to_text(own_report(false));
    for (FrameSocket& collector : to_collectors_) {
        if (!collector.has_unsent()) collector.send(text);
    }
}

// What a collecting rank tells this one.
void Watchdog::Watch::obey(FrameSocket& from) {
    if (compare_.load() && !compared_.load() && &from == &to_collectors_.front() && rank_ != 0) {
        compare_.store(false);
        from.send("compare");
    }
    from.receive();
    while (const std::optional<std::string> frame = from.next_frame()) {
        if (*frame == "ask") {
            from.send("answer\n" + to_text(own_report(true)));
        } else if (*frame == "compared") {
            compared_.store(true);
        } else if (*frame == "end") {
            ended_ = true;
            options_.end(ExitCode::hang);
            return;
        }
    }
}

void Watchdog::Watch::say_goodbye() {
    if (left_.load()) return;
    for (FrameSocket& collector : to_collectors_) collector.send("bye");
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
    return std::max(is_unknown ? kUnseenWatchLimit : kLeastWatchLimit, kLongestTimes * longest);
}

void Watchdog::leave() {
    watch_->leave();
}

void Watchdog::compare() {
    watch_->compare();
}

}  // namespace trireme
