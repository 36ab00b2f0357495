#include "app/signal_thread.h"

#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>

#include "app/peak_rate.h"
#include "core/device.h"

namespace trireme::test {

namespace {

std::atomic<int> handled{0}, handled_by_computing{0};
std::atomic<pid_t> computing{0};
extern "C" void count_signal(int /*number*/) {
    ++handled;
    if (gettid() == computing) ++handled_by_computing;
}

}  // namespace

// With AVX2, oneDNN 2.6's f32 products use a stack of their own on the heap: a handler that ran
// there would write over what lies below it.
TEST_CASE("no signal is handled in the middle of a product", "[app][stop]") {
    const auto former_handler = signal(SIGUSR2, count_signal);
    handled = handled_by_computing = 0;
    computing = gettid();
    {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGUSR2);
        const SignalThread thread(signals);
        std::atomic<bool> ends{false};
        std::thread sender([&] {
            while (!ends) {
                kill(getpid(), SIGUSR2);
                std::this_thread::sleep_for(std::chrono::microseconds(500));
            }
        });
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        for (int i = 0; i < 5; ++i) CHECK(measure_matmul_rate(*device, DType::f32) > 0.0);
        ends = true;
        sender.join();
    }
    signal(SIGUSR2, former_handler);
    CHECK(handled > 20);
    CHECK(handled_by_computing == 0);
}

}  // namespace trireme::test
