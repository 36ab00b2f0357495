#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace trireme::testing {

// A stream whose work is done when it is enqueued, as on the CPU.
class DoneStream final : public Stream {
public:
    Event record() override { return {}; }
    void wait(const Event& event) override {
        if (event.source) event.source->host_wait(event.ticket);
    }
    void synchronize() override {}
};

// What every carrier must do, run by all ranks of a world of any size. These throw
// std::runtime_error saying what differs; Catch2's own checks are not made for several threads.
struct CommunicatorCase {
    std::string name;
    void (*run)(World& world);
};
const std::vector<CommunicatorCase>& communicator_cases();

}  // namespace trireme::testing
