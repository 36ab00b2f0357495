#include "parallel/mpi/mpi_world.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "parallel/group_members.h"
#include "parallel/mpi/mpi_run.h"
#include "parallel/queued_communicator.h"
#include "parallel/self_communicator.h"

namespace trireme {

namespace {

class MpiWorld final : public World {
public:
    MpiWorld(const Launcher& launcher, std::chrono::milliseconds timeout, bool rendezvous)
        : run_(launcher, timeout, rendezvous) {
        std::vector<int> everyone(static_cast<size_t>(run_.size()));
        std::iota(everyone.begin(), everyone.end(), 0);
        control_ = &run_.add_channel(0, "world", everyone, run_.rank());
    }

    int rank() const override { return run_.rank(); }
    int size() const override { return run_.size(); }
    int local_rank() const override { return run_.local_rank(); }
    int local_size() const override { return run_.local_size(); }

    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse) override {
        std::vector<ColorAndKey> of_rank(static_cast<size_t>(size()));
        ColorAndKey& mine = of_rank[static_cast<size_t>(rank())];
        mine = {color, key};
        if (size() > 1) {
            const Event gathered = control_->issue({.kind = OperationKind::all_gather,
                                                    .elements = sizeof mine,
                                                    .input = &mine,
                                                    .output = of_rank.data(),
                                                    .label = "split"});
            gathered.source->host_wait(gathered.ticket);
        }
        ++splits_;
        if (color < 0) return nullptr;
        std::vector<int> members = group_members(of_rank, color);
        if (members.size() == 1) return std::make_unique<SelfCommunicator>(name);
        const auto place = std::find(members.begin(), members.end(), rank());
        const int group_rank = static_cast<int>(place - members.begin());
        return std::make_unique<QueuedCommunicator>(
            run_.add_channel(splits_, name, std::move(members), group_rank));
    }

    [[noreturn]] void abort(int exit_code) override { run_.abort(exit_code); }
    ActivityBoard& activity() override { return run_.activity(); }

private:
    MpiRun run_;
    Channel* control_ = nullptr;
    int splits_ = 0;
};

}  // namespace

std::unique_ptr<World> make_mpi_world(const Launcher& launcher, std::chrono::milliseconds timeout,
                                      bool rendezvous) {
    return std::make_unique<MpiWorld>(launcher, timeout, rendezvous);
}

}  // namespace trireme
