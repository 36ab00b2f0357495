#include "parallel/nccl/nccl_world.h"

#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/cpu/cpu_device.h"
#include "core/cuda/cuda_error.h"
#include "parallel/forwarding_world.h"
#include "parallel/nccl/nccl_communicator.h"
#include "parallel/self_communicator.h"

namespace trireme {

namespace {

// Device memory from NCCL, which can register it with its communicators.
struct NcclMemory {
    NcclRun* run = nullptr;  // null after the world's end, until which the memory may stay
    CudaDevice& device;
    std::map<void*, size_t> allocations = {};

    void* take(size_t bytes) {
        void* memory = nullptr;
        if (ncclMemAlloc(&memory, bytes) != ncclSuccess) {
            cudaGetLastError();  // it is not to be reported again by the next call
            return nullptr;
        }
        allocations[memory] = bytes;
        return memory;
    }

    void give_back(void* memory) {
        const auto found = allocations.find(memory);
        if (run && found != allocations.end()) run->release(memory, found->second);
        if (found != allocations.end()) allocations.erase(found);
        // Unlike cudaFree, this does not wait for what still uses the memory.
        cudaStreamSynchronize(device.compute().handle());
        ncclMemFree(memory);
    }
};

// NCCL 2.28 refuses two ranks on one GPU of one host. Ranks that say they are on different hosts,
// and talk over sockets, may share it. What the user has chosen stays.
void let_ranks_share_gpus(const World& control) {
    int gpus = 0;
    check_cuda(cudaGetDeviceCount(&gpus), "counting GPUs");
    if (control.local_size() <= gpus) return;
    const int keep = 0;
    setenv("NCCL_HOSTID", ("trireme-" + std::to_string(control.rank())).c_str(), keep);
    if (control.local_size() == control.size()) setenv("NCCL_SOCKET_IFNAME", "lo", keep);
    setenv("NCCL_IB_DISABLE", "1", keep);
    setenv("NCCL_NET", "Socket", keep);
    setenv("NCCL_MNNVL_ENABLE", "0", keep);
    // Processes take turns on the GPU: more channels would only be more connections to make, and
    // so would more than one algorithm, each connected at its first use.
    setenv("NCCL_MAX_NCHANNELS", "1", keep);
    setenv("NCCL_ALGO", "Ring", keep);
}

class NcclWorld final : public ForwardingWorld {
public:
    NcclWorld(World& control, CudaDevice& device, std::chrono::milliseconds timeout)
        : ForwardingWorld(control),
          control_(control),
          device_(device),
          memory_(std::make_shared<NcclMemory>(NcclMemory{.device = device})) {
        let_ranks_share_gpus(control);
        device_.set_memory_source(
            {[memory = memory_](size_t bytes) { return memory->take(bytes); },
             [memory = memory_](void* address) { memory->give_back(address); }});
        run_ = std::make_unique<NcclRun>(control, device, timeout);
        memory_->run = run_.get();
        device_.compute().set_wait_check([run = run_.get()] { run->throw_if_failed(); });
    }
    ~NcclWorld() override {
        device_.compute().set_wait_check({});
        memory_->run = nullptr;
    }
    NcclWorld(const NcclWorld&) = delete;
    NcclWorld& operator=(const NcclWorld&) = delete;

    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse use) override {
        const std::unique_ptr<Communicator> members = control_.split(color, key, name, use);
        if (!members) return nullptr;
        if (members->size() == 1) return std::make_unique<SelfCommunicator>(name);
        NcclGroup group = describe_group(*members);
        const std::vector<ncclUniqueId> ids = share_ids(*members, use);
        return std::make_unique<NcclCommunicator>(*run_, std::move(group), use, ids);
    }

private:
    NcclGroup describe_group(Communicator& members) const {
        NcclGroup group{members.name(), std::vector<int>(static_cast<size_t>(members.size())),
                        members.rank()};
        int own = control_.rank();
        CpuStream host;
        host.wait(members.all_gather(host, Tensor(&own, DType::i32, {1}),
                                     Tensor(group.world_ranks.data(), DType::i32, {members.size()}),
                                     "ranks of a group"));
        return group;
    }

    // The group's first member makes what its NCCL communicators are found by.
    static std::vector<ncclUniqueId> share_ids(Communicator& members, GroupUse use) {
        const int n = NcclCommunicator::queues_of(use, members.size());
        std::vector<ncclUniqueId> ids(static_cast<size_t>(n));
        if (members.rank() == 0) {
            for (ncclUniqueId& id : ids) {
                const ncclResult_t result = ncclGetUniqueId(&id);
                if (result == ncclSuccess) continue;
                throw Error(ExitCode::io,
                            std::string("communication: NCCL cannot start: ") +
                                ncclGetErrorString(result) +
                                "; run with NCCL_DEBUG=WARN for the cause (often the network: see "
                                "NCCL_SOCKET_IFNAME)");
            }
        }
        CpuStream host;
        const auto bytes = static_cast<int64_t>(ids.size() * sizeof(ncclUniqueId));
        host.wait(
            members.broadcast(host, Tensor(ids.data(), DType::u8, {bytes}), 0, "NCCL's addresses"));
        return ids;
    }

    World& control_;
    CudaDevice& device_;
    std::shared_ptr<NcclMemory> memory_;
    std::unique_ptr<NcclRun> run_;
};

}  // namespace

std::unique_ptr<World> make_nccl_world(World& control, CudaDevice& device,
                                       std::chrono::milliseconds timeout) {
    if (control.size() == 1) return std::make_unique<ForwardingWorld>(control);
    return std::make_unique<NcclWorld>(control, device, timeout);
}

}  // namespace trireme
