#include "core/timed_stream.h"

#include <algorithm>
#include <bit>

namespace trireme {

double TimedStream::Marks::end_of(uint64_t ticket) {
    return std::bit_cast<double>(ticket);
}

Event TimedStream::record() {
    return {&marks_, std::bit_cast<uint64_t>(now_)};
}

void TimedStream::wait(const Event& event) {
    if (!event.source) return;
    const double end = static_cast<TimedSource*>(event.source)->end_of(event.ticket);
    const double waited = std::max(0.0, end - now_);
    now_ += waited;
    if (WaitAccount* account = event.source->wait_account()) account->seconds += waited;
}

void TimedStream::copy(void*, const void*, size_t bytes) {
    work(2.0 * static_cast<double>(bytes) / bytes_per_second_);
}

}  // namespace trireme
