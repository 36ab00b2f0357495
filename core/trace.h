#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace trireme {

// Where the time of one rank's compute goes: named spans, kept in a ring of fixed size that holds
// the newest. Thread-safe; recording allocates nothing. Times are nanoseconds of now_ns().
class Trace {
public:
    // origin_unix_ns: the wall-clock time that is zero in the written file. Give every rank the
    // same and their files line up as well as the hosts' clocks agree. 0: the time of this call.
    Trace(int rank, size_t capacity, int64_t origin_unix_ns = 0);

    static int64_t now_ns();   // steady clock; compares within one process only
    static int64_t unix_ns();  // wall clock

    // `name` and `category` must have static lifetime. number: which micro-batch, step or
    // operation it was; negative: none.
    void record(const char* name, const char* category, int64_t begin_ns, int64_t end_ns,
                int64_t number = -1);

    uint64_t recorded() const;  // spans so far, those that the ring has forgotten included

    // Writes what the ring holds as a Chrome trace (open in Perfetto or chrome://tracing):
    // process = rank, one thread "compute". Replaces the file in one step. Throws Error (io).
    void write_json(const std::string& path) const;

private:
    struct Span {
        const char* name = nullptr;
        const char* category = nullptr;
        int64_t begin_ns = 0;
        int64_t end_ns = 0;
        int64_t number = -1;
    };

    mutable std::mutex mutex_;
    int rank_;
    int64_t origin_ns_;  // on the clock of now_ns()
    std::vector<Span> ring_;
    uint64_t recorded_ = 0;
};

// Records its own lifetime. With a null trace it does nothing and reads no clock.
class TraceSpan {
public:
    TraceSpan(Trace* trace, const char* name, const char* category, int64_t number = -1)
        : trace_(trace), name_(name), category_(category), number_(number) {
        if (trace_ != nullptr) begin_ns_ = Trace::now_ns();
    }
    ~TraceSpan() {
        if (trace_ == nullptr) return;
        trace_->record(name_, category_, begin_ns_, Trace::now_ns(), number_);
    }
    TraceSpan(const TraceSpan&) = delete;
    TraceSpan& operator=(const TraceSpan&) = delete;

private:
    Trace* trace_;
    const char* name_;
    const char* category_;
    int64_t number_;
    int64_t begin_ns_ = 0;
};

}  // namespace trireme
