#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace trireme {

// What the ranks tell one another beside training: decisions, outcomes, tables of contents. Host
// memory only, so it needs the control world, whose communicators carry that (those of a device's
// world carry the device's). All calls are collective and block. One thread at a time uses a
// group; a thread that works beside the training loop has a group of its own.
class ControlGroup {
public:
    // Collective. `control` outlives the group. `name` says what it is for, in errors and traces.
    ControlGroup(World& control, const std::string& name);
    ~ControlGroup();
    ControlGroup(const ControlGroup&) = delete;
    ControlGroup& operator=(const ControlGroup&) = delete;

    int rank() const;
    int size() const;
    void barrier();

    // The root's text, of any length, on every rank.
    std::string broadcast(std::string text, int root = 0);
    // Every rank's text on rank 0, in rank order; nothing on the others.
    std::vector<std::string> gather(std::string text);
    // Every rank's text on every rank, in rank order.
    std::vector<std::string> gather_everywhere(const std::string& text);
    double largest(double value);
    double sum(double value);

    // Runs `work` on every rank. When it failed on any, rank 0 runs `clean_up` and all ranks throw
    // the error of the lowest rank that failed, which is named. `what` stands in messages of
    // unexpected failures: "while saving a checkpoint".
    void run(const char* what, const std::function<void()>& work,
             const std::function<void()>& clean_up = {});

private:
    double reduce(double value, ReduceOp op);

    std::unique_ptr<Stream>
        stream_;  // the order of the calling thread: what it has written is there
    std::unique_ptr<Communicator> all_;
};

}  // namespace trireme
