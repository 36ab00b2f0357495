#pragma once

#include <string>
#include <utility>

#include "parallel/activity.h"
#include "parallel/communicator.h"

namespace trireme {

// A group of one: nothing to move but a shard into a whole elsewhere, or a block to itself.
// Complete on return.
class SelfCommunicator final : public Communicator {
public:
    explicit SelfCommunicator(std::string name) : name_(std::move(name)) {}

    int rank() const override { return 0; }
    int size() const override { return 1; }
    const std::string& name() const override { return name_; }

    Event all_reduce(Stream& after, const Tensor& buffer, ReduceOp op, const char* label) override;
    Event all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                     const char* label) override;
    Event reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                         const char* label) override;
    Event all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                     const char* label) override;
    Event broadcast(Stream& after, const Tensor& buffer, int root, const char* label) override;
    // A group of one has no other member: these are refused (InternalError).
    Event send(Stream& after, const Tensor& buffer, int peer, const char* label) override;
    Event recv(Stream& after, const Tensor& buffer, int peer, const char* label) override;
    void barrier() override {}

private:
    const std::string name_;
};

// The world of a process that runs alone.
class SelfWorld final : public World {
public:
    int rank() const override { return 0; }
    int size() const override { return 1; }
    int local_rank() const override { return 0; }
    int local_size() const override { return 1; }
    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse use) override;
    [[noreturn]] void abort(int exit_code) override;
    ActivityBoard& activity() override { return activity_; }

private:
    ActivityBoard activity_;
};

}  // namespace trireme
