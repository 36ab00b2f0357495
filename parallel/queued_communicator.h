#pragma once

#include "parallel/channel.h"
#include "parallel/communicator.h"

namespace trireme {

// The communicator of the carriers whose operations a background thread performs: checks the
// arguments and issues to its channel. One thread at a time may issue on it.
class QueuedCommunicator final : public Communicator {
public:
    explicit QueuedCommunicator(Channel& channel) : channel_(channel) {}

    int rank() const override { return channel_.rank(); }
    int size() const override { return channel_.size(); }
    const std::string& name() const override { return channel_.name(); }

    Event all_reduce(Stream& after, const Tensor& buffer, ReduceOp op, const char* label) override;
    Event all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                     const char* label) override;
    Event reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                         const char* label) override;
    Event all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                     const char* label) override;
    Event broadcast(Stream& after, const Tensor& buffer, int root, const char* label) override;
    Event send(Stream& after, const Tensor& buffer, int peer, const char* label) override;
    Event recv(Stream& after, const Tensor& buffer, int peer, const char* label) override;
    void barrier() override;
    void put_waits_down_to(WaitAccount& account) override { channel_.put_waits_down_to(account); }

private:
    Event issue(Stream& after, const Operation& operation);

    Channel& channel_;
};

}  // namespace trireme
