#pragma once

#include <semaphore.h>

#include <cerrno>
#include <chrono>
#include <ctime>

namespace trireme {

// Wakes the one thread that sleeps on it. Rings while nobody sleeps are kept. A semaphore, because
// ringing then tells the ringer nothing about the sleeper's work (see OperationQueue).
class Doorbell {
public:
    Doorbell() { sem_init(&semaphore_, 0, 0); }
    ~Doorbell() { sem_destroy(&semaphore_); }
    Doorbell(const Doorbell&) = delete;
    Doorbell& operator=(const Doorbell&) = delete;

    void ring() { sem_post(&semaphore_); }

    void wait() {
        while (sem_wait(&semaphore_) != 0 && errno == EINTR) continue;
        clear();
    }
    void wait_for(std::chrono::nanoseconds longest) {
        timespec until{};
        clock_gettime(CLOCK_MONOTONIC, &until);
        const auto nanoseconds = until.tv_nsec + longest.count();
        until.tv_sec += nanoseconds / 1'000'000'000;
        until.tv_nsec = nanoseconds % 1'000'000'000;
        if (sem_clockwait(&semaphore_, CLOCK_MONOTONIC, &until) == 0) clear();
    }

private:
    void clear() {
        while (sem_trywait(&semaphore_) == 0) continue;
    }

    sem_t semaphore_;
};

}  // namespace trireme
