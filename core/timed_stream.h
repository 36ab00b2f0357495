#pragma once

#include "core/stream.h"

namespace trireme {

// A source of a run that does not take place. Each piece of its work ends at an instant of that
// run's own time, in seconds since it began.
class TimedSource : public EventSource {
public:
    // When the work with this ticket is done. Blocks while that depends on work that other ranks,
    // on threads of their own, have still to issue.
    virtual double end_of(uint64_t ticket) = 0;

    void host_wait(uint64_t ticket) override { end_of(ticket); }
    bool done(uint64_t) override { return true; }
};

// A compute stream that does nothing and knows how long it would have taken. All events that it
// waits for come from a TimedSource.
class TimedStream final : public Stream {
public:
    // bytes_per_second: of copies within memory, read and written bytes added.
    explicit TimedStream(double bytes_per_second) : bytes_per_second_(bytes_per_second) {}

    // When what has been enqueued so far is done.
    double now() const { return now_; }
    // Of it, without the waits.
    double busy_seconds() const { return busy_; }
    void work(double seconds) {
        now_ += seconds;
        busy_ += seconds;
    }

    Event record() override;
    void wait(const Event& event) override;
    void copy(void* to, const void* from, size_t bytes) override;
    void synchronize() override {}

private:
    // The ticket is the instant itself.
    class Marks final : public TimedSource {
    public:
        double end_of(uint64_t ticket) override;
    };

    const double bytes_per_second_;
    double now_ = 0.0, busy_ = 0.0;
    Marks marks_;
};

}  // namespace trireme
