#include "parallel/throttled_world.h"

#include <algorithm>
#include <utility>

#include "parallel/cluster_links.h"
#include "parallel/forwarding_world.h"
#include "parallel/link.h"

namespace trireme {

namespace {

// The link's thread issues collectives and sends, this one receives: a carrier takes each queue
// from one thread.
class ThrottledCommunicator final : public Communicator {
public:
    ThrottledCommunicator(std::unique_ptr<Communicator> group, const LinkOptions& link)
        : group_(std::move(group)), speed_(link) {}

    int rank() const override { return group_->rank(); }
    int size() const override { return group_->size(); }
    const std::string& name() const override { return group_->name(); }

    Event all_reduce(Stream& after, const Tensor& buffer, ReduceOp op, const char* label) override {
        return hold(collectives_, after, moved(Collective::all_reduce, buffer),
                    [=, this, &after] { return group_->all_reduce(after, buffer, op, label); });
    }
    Event all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                     const char* label) override {
        return hold(collectives_, after, moved(Collective::all_gather, whole),
                    [=, this, &after] { return group_->all_gather(after, shard, whole, label); });
    }
    Event reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                         const char* label) override {
        return hold(
            collectives_, after, moved(Collective::reduce_scatter, whole),
            [=, this, &after] { return group_->reduce_scatter(after, whole, shard, label); });
    }
    Event all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                     const char* label) override {
        return hold(collectives_, after, moved(Collective::all_to_all, from),
                    [=, this, &after] { return group_->all_to_all(after, from, to, label); });
    }
    Event broadcast(Stream& after, const Tensor& buffer, int root, const char* label) override {
        return hold(collectives_, after, moved(Collective::broadcast, buffer),
                    [=, this, &after] { return group_->broadcast(after, buffer, root, label); });
    }
    Event send(Stream& after, const Tensor& buffer, int peer, const char* label) override {
        return hold(sends_, after, bytes_of(buffer),
                    [=, this, &after] { return group_->send(after, buffer, peer, label); });
    }
    Event recv(Stream& after, const Tensor& buffer, int peer, const char* label) override {
        return group_->recv(after, buffer, peer, label);
    }

    void barrier() override {
        collectives_.flush();
        group_->barrier();
    }
    void register_memory(const Tensor& memory) override { group_->register_memory(memory); }
    void put_waits_down_to(WaitAccount& account) override {
        collectives_.put_waits_down_to(&account);
        sends_.put_waits_down_to(&account);
        group_->put_waits_down_to(account);  // of the receives; no stream waits for the others
    }

private:
    static double bytes_of(const Tensor& tensor) { return static_cast<double>(tensor.bytes()); }
    double moved(Collective kind, const Tensor& tensor) const {
        return ring_bytes(kind, size(), bytes_of(tensor));
    }

    Event hold(Link& link, Stream& after, double bytes, std::function<Event()> hand_on) const {
        after.synchronize();
        const double transfer =
            speed_.bandwidth_mb_per_s > 0.0 ? bytes / (speed_.bandwidth_mb_per_s * 1e6) : 0.0;
        return link.issue(Link::Seconds(speed_.latency_ms * 1e-3 + transfer), std::move(hand_on));
    }

    const std::unique_ptr<Communicator> group_;
    const LinkOptions speed_;
    Link collectives_, sends_;
};

class ThrottledWorld final : public ForwardingWorld {
public:
    ThrottledWorld(World& world, std::vector<LinkOptions> links)
        : ForwardingWorld(world), links_(std::move(links)) {}

    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse use) override {
        std::unique_ptr<Communicator> group = ForwardingWorld::split(color, key, name, use);
        const MeshAxis axis = axis_of(name);
        const auto link = std::find_if(links_.begin(), links_.end(),
                                       [&](const LinkOptions& one) { return one.axis == axis; });
        if (!group || link == links_.end()) return group;
        return make_throttled_communicator(std::move(group), *link);
    }

private:
    const std::vector<LinkOptions> links_;
};

}  // namespace

std::unique_ptr<World> make_throttled_world(World& world, std::vector<LinkOptions> links) {
    return std::make_unique<ThrottledWorld>(world, std::move(links));
}

std::unique_ptr<Communicator> make_throttled_communicator(std::unique_ptr<Communicator> group,
                                                          const LinkOptions& link) {
    if (group->size() == 1) return group;
    return std::make_unique<ThrottledCommunicator>(std::move(group), link);
}

}  // namespace trireme
