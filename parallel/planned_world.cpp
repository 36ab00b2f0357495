#include "parallel/planned_world.h"

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "core/error.h"
#include "parallel/activity.h"

namespace trireme {

namespace {

class PlannedCommunicator final : public Communicator {
public:
    PlannedCommunicator(std::string name, int rank, int size)
        : name_(std::move(name)), rank_(rank), size_(size) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    const std::string& name() const override { return name_; }

    Event all_reduce(Stream&, const Tensor&, ReduceOp, const char*) override { refuse(); }
    Event all_gather(Stream&, const Tensor&, const Tensor&, const char*) override { refuse(); }
    Event reduce_scatter(Stream&, const Tensor&, const Tensor&, const char*) override { refuse(); }
    Event all_to_all(Stream&, const Tensor&, const Tensor&, const char*) override { refuse(); }
    Event broadcast(Stream&, const Tensor&, int, const char*) override { refuse(); }
    Event send(Stream&, const Tensor&, int, const char*) override { refuse(); }
    Event recv(Stream&, const Tensor&, int, const char*) override { refuse(); }
    void barrier() override { refuse(); }

private:
    [[noreturn]] void refuse() const { throw InternalError(name_ + ": communication in a plan"); }

    const std::string name_;
    const int rank_, size_;
};

class UnusableWorld : public World {
public:
    UnusableWorld(int rank, int size) : rank_(rank), size_(size) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    int local_rank() const override { return 0; }
    int local_size() const override { return 1; }
    [[noreturn]] void abort(int) override { std::terminate(); }
    ActivityBoard& activity() override { return activity_; }

private:
    const int rank_, size_;
    ActivityBoard activity_;
};

}  // namespace

class PlannedRanks::RecordingWorld final : public UnusableWorld {
public:
    RecordingWorld(int rank, int size, Splits& to) : UnusableWorld(rank, size), splits_(to) {}

    std::unique_ptr<Communicator> split(int color, int key, const std::string&, GroupUse) override {
        if (n_made_ == splits_.size()) {
            splits_.emplace_back(static_cast<size_t>(size()), ColorAndKey{.color = -1});
        }
        splits_[n_made_++][static_cast<size_t>(rank())] = {color, key};
        return nullptr;
    }

    size_t n_made() const { return n_made_; }

private:
    Splits& splits_;
    size_t n_made_ = 0;
};

class PlannedRanks::PlannedWorld final : public UnusableWorld {
public:
    PlannedWorld(int rank, int size, std::shared_ptr<const Splits> splits, GroupMaker make_group)
        : UnusableWorld(rank, size),
          splits_(std::move(splits)),
          make_group_(std::move(make_group)) {}

    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse) override {
        Group group{.number = n_made_++, .name = name, .rank = 0, .members = {}};
        const std::vector<ColorAndKey>& of_rank = splits_->at(group.number);
        const ColorAndKey& own_split = of_rank[static_cast<size_t>(rank())];
        TRIREME_CHECK(own_split.color == color && own_split.key == key,
                      "the splits that were planned");
        if (color < 0) return nullptr;
        group.members = group_members(of_rank, color);
        const auto own = std::find(group.members.begin(), group.members.end(), rank());
        group.rank = static_cast<int>(own - group.members.begin());
        if (make_group_) return make_group_(group);
        return std::make_unique<PlannedCommunicator>(name, group.rank,
                                                     static_cast<int>(group.members.size()));
    }

private:
    const std::shared_ptr<const Splits> splits_;
    const GroupMaker make_group_;
    size_t n_made_ = 0;
};

PlannedRanks::PlannedRanks(int size, const std::function<void(World&)>& make_groups) : size_(size) {
    Splits splits;
    for (int rank = 0; rank < size; ++rank) {
        RecordingWorld world(rank, size, splits);
        make_groups(world);
        TRIREME_CHECK(world.n_made() == splits.size(), "all ranks to make the same splits");
    }
    splits_ = std::make_shared<const Splits>(std::move(splits));
}

std::unique_ptr<World> PlannedRanks::world_of(int rank, GroupMaker make_group) const {
    return std::make_unique<PlannedWorld>(rank, size_, splits_, std::move(make_group));
}

}  // namespace trireme
