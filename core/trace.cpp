#include "core/trace.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/error.h"

namespace trireme {

namespace {

template <typename Clock>
int64_t nanoseconds_of() {
    const auto since_epoch = Clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch).count();
}

std::string quoted(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The format counts in microseconds; three decimals keep the nanoseconds.
std::string microseconds(int64_t ns) {
    char text[40];
    std::snprintf(text, sizeof text, "%s%lld.%03lld", ns < 0 ? "-" : "",
                  static_cast<long long>(std::abs(ns) / 1000),
                  static_cast<long long>(std::abs(ns) % 1000));
    return text;
}

[[noreturn]] void fail_to_write(const std::string& path, const std::string& why) {
    throw Error(ExitCode::io, "cannot write the trace " + path + ": " + why +
                                  "; check the folder, its permissions and the free space");
}

}  // namespace

Trace::Trace(int rank, size_t capacity, int64_t origin_unix_ns) : rank_(rank), ring_(capacity) {
    TRIREME_CHECK(capacity > 0, "a trace that can hold at least one span");
    const int64_t age = origin_unix_ns == 0 ? 0 : unix_ns() - origin_unix_ns;
    origin_ns_ = now_ns() - age;
}

int64_t Trace::now_ns() {
    return nanoseconds_of<std::chrono::steady_clock>();
}

int64_t Trace::unix_ns() {
    return nanoseconds_of<std::chrono::system_clock>();
}

void Trace::record(const char* name, const char* category, int64_t begin_ns, int64_t end_ns,
                   int64_t number) {
    const std::lock_guard lock(mutex_);
    ring_[static_cast<size_t>(recorded_ % ring_.size())] = {name, category, begin_ns, end_ns,
                                                            number};
    ++recorded_;
}

uint64_t Trace::recorded() const {
    const std::lock_guard lock(mutex_);
    return recorded_;
}

void Trace::write_json(const std::string& path) const {
    std::vector<Span> spans;  // oldest first
    {
        const std::lock_guard lock(mutex_);
        const uint64_t kept = std::min<uint64_t>(recorded_, ring_.size());
        spans.reserve(static_cast<size_t>(kept));
        for (uint64_t i = recorded_ - kept; i < recorded_; ++i)
            spans.push_back(ring_[static_cast<size_t>(i % ring_.size())]);
    }

    const std::string unfinished = path + ".partial";
    std::ofstream out(unfinished, std::ios::binary | std::ios::trunc);
    if (!out) fail_to_write(unfinished, std::strerror(errno));
    const std::string pid = std::to_string(rank_);
    out << "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
        << "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":" << pid
        << ",\"args\":{\"name\":\"rank " << pid << "\"}},\n"
        << "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":" << pid
        << ",\"args\":{\"sort_index\":" << pid << "}},\n"
        << "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":" << pid
        << ",\"tid\":0,\"args\":{\"name\":\"compute\"}}";
    for (const Span& span : spans) {
        out << ",\n{\"ph\":\"X\",\"name\":" << quoted(span.name)
            << ",\"cat\":" << quoted(span.category) << ",\"pid\":" << pid
            << ",\"tid\":0,\"ts\":" << microseconds(span.begin_ns - origin_ns_)
            << ",\"dur\":" << microseconds(span.end_ns - span.begin_ns);
        if (span.number >= 0) out << ",\"args\":{\"number\":" << span.number << "}";
        out << "}";
    }
    out << "\n]}\n";
    out.close();
    if (!out) fail_to_write(unfinished, std::strerror(errno));

    std::error_code failure;
    std::filesystem::rename(unfinished, path, failure);
    if (failure) fail_to_write(path, failure.message());
}

}  // namespace trireme
