#pragma once

#include <poll.h>

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "parallel/frame_socket.h"
#include "parallel/rank_report.h"
#include "parallel/watchdog.h"

namespace trireme {

// The part of a watchdog's thread that only rank 0 and its deputy, rank 1, have: hears every rank's
// beats, asks all of them when one seems to stand, and ends the run. Times are seconds of the
// thread's own clock (see Watchdog). For one thread, but for compare() and compared().
class WatchCollector {
public:
    // What this rank would say of itself: its head, or all.
    using OwnReport = std::function<RankReport(bool all)>;

    // Listens, if there is more than one rank and the host allows it.
    WatchCollector(int rank, int size, const WatchdogOptions& options, OwnReport own_report);

    uint16_t port() const { return listener_ ? listener_->port() : 0; }  // 0: does not listen
    // Known to the ranks alone: anybody can connect.
    void expect_token(const std::string& token) { token_ = token; }

    void poll_on(std::vector<pollfd>& descriptors) const;
    // Takes what has come and looks for trouble, unless this rank is leaving. True: the run was
    // ended.
    bool work(double now, bool is_leaving);

    // Has all ranks asked for mismatched collectives; compared() when that is done.
    void compare() { compare_.store(true); }
    bool compared() const { return compared_.load(); }

private:
    struct Watched {
        std::optional<FrameSocket> socket;
        bool known = false;  // has said hello
        bool left = false;   // has taken leave
        bool gone = false;   // its connection broke without
        RankReport last;     // of its last beat: the head only
        double heard = 0;    // when that came
        std::optional<RankReport> answer;
    };

    void accept();
    void identify(FrameSocket socket, const std::string& hello);
    void listen_to(Watched& rank);
    void take_frame(Watched& rank, const std::string& frame);
    void look_for_trouble();
    bool is_in_charge() const;
    void look_for_gone();
    bool is_watched(const Watched& rank) const { return rank.known && !rank.left && !rank.gone; }
    bool is_suspicious(const Watched& rank) const;
    bool is_silent(const Watched& rank) const;
    double silence_limit() const;
    void ask();
    bool all_answered() const;
    std::vector<RankReport> answers() const;
    void judge();
    void end_all(const std::string& message, const std::string& details);
    Watched& own() { return watched_[static_cast<size_t>(rank_)]; }

    const int rank_;
    const WatchdogOptions& options_;
    const OwnReport own_report_;
    std::atomic<bool> compare_{false}, compared_{false};

    std::string token_;
    std::optional<ListeningSocket> listener_;
    std::vector<FrameSocket> strangers_;  // have not said hello yet
    std::vector<Watched> watched_;        // one a rank

    double now_ = 0;
    bool is_leaving_ = false;
    bool asking_ = false, comparing_ = false, ended_ = false;
    FrameSocket* comparing_for_ = nullptr;  // null: for this rank
    double last_question_ = -1e9;
    double gone_since_ = -1, gone_reported_ = -1;
    int first_gone_ = -1;
};

// Without signs of life for so long a rank counts as dead.
constexpr double kLeastWatchLimit = 60.0;  // seconds
// Of a rank that has not shown yet how long its work takes.
constexpr double kUnseenWatchLimit = 600.0;  // seconds

}  // namespace trireme
