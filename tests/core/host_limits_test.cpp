#include "core/host_limits.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/cpu/cpu_device.h"
#include "core/error.h"
#include "tests/core/temporary_folder.h"

namespace trireme {

namespace {

// The files of another machine.
class Machine {
public:
    Machine& with(const std::string& path, const std::string& content) {
        const std::filesystem::path file = root() + "/" + path;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream(file) << content;
        return *this;
    }
    const std::string& root() const { return folder_.path(); }

private:
    TemporaryFolder folder_;
};

constexpr uint64_t kGiB = uint64_t{1} << 30;

}  // namespace

TEST_CASE("without control groups a process may use what the machine has", "[core][limits]") {
    Machine machine;
    CHECK(std::isinf(processor_quota(machine.root())));
    CHECK(host_memory(machine.root()) == HostMemory{});
    machine.with("proc/meminfo",
                 "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n"
                 "SwapFree:        1048576 kB\n");
    CHECK(host_memory(machine.root()) == HostMemory{16 * kGiB, 9 * kGiB});
    // A group that is named and whose files are not there, or say that there is no limit.
    machine.with("proc/self/cgroup", "0::/job\n")
        .with("sys/fs/cgroup/cpu.max", "max 100000\n")
        .with("sys/fs/cgroup/memory.max", "max\n")
        .with("sys/fs/cgroup/memory.current", "1000\n");
    CHECK(std::isinf(processor_quota(machine.root())));
    CHECK(host_memory(machine.root()) == HostMemory{16 * kGiB, 9 * kGiB});
    machine.with("proc/spl/kstat/zfs/arcstats",
                 "name type data\nc_min 4 1073741824\nsize 4 3221225472\n");
    CHECK(host_memory(machine.root()).available == 11 * kGiB);
}

TEST_CASE("the narrowest of a process's control groups counts", "[core][limits]") {
    Machine machine;
    machine.with("proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 67108864 kB\n")
        .with("proc/self/cgroup", "0::/batch/job_7/step_0\n")
        .with("sys/fs/cgroup/batch/job_7/step_0/cpu.max", "max 100000\n")
        .with("sys/fs/cgroup/batch/job_7/cpu.max", "350000 100000\n")
        .with("sys/fs/cgroup/batch/cpu.max", "1600000 100000\n")
        .with("sys/fs/cgroup/batch/job_7/memory.max", "8589934592\n")
        .with("sys/fs/cgroup/batch/job_7/memory.current", "3221225472\n")
        .with("sys/fs/cgroup/batch/job_7/memory.stat",
              "anon 2147483648\ninactive_file 536870912\nactive_file 536870912\n")
        .with("sys/fs/cgroup/batch/memory.max", "34359738368\n")
        .with("sys/fs/cgroup/batch/memory.current", "33285996544\n")
        .with("sys/fs/cgroup/other/cpu.max", "100000 100000\n");
    CHECK(processor_quota(machine.root()) == 3.5);
    // Of the job's 8 GiB 2 are in use for good; of the batch system's 32 one is left.
    CHECK(host_memory(machine.root()) == HostMemory{8 * kGiB, kGiB});
    machine.with("sys/fs/cgroup/batch/memory.current", "0\n");
    CHECK(host_memory(machine.root()).available == 6 * kGiB);
    // More in use than there may be.
    machine.with("sys/fs/cgroup/batch/job_7/memory.current", "12884901888\n");
    CHECK(host_memory(machine.root()).available == 0);
}

TEST_CASE("control groups of the first version limit as well", "[core][limits]") {
    Machine machine;
    // As in a container: the group's path is that of the host, its files lie at the top.
    machine
        .with("proc/self/cgroup",
              "9:name=systemd:/\n5:cpuset:/\n4:cpu,cpuacct:/docker/ab\n3:memory:/docker/ab\n0::/\n")
        .with("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n")
        .with("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
        .with("sys/fs/cgroup/memory/memory.limit_in_bytes", "4294967296\n")
        .with("sys/fs/cgroup/memory/memory.usage_in_bytes", "3221225472\n")
        .with("sys/fs/cgroup/memory/memory.stat",
              "inactive_file 0\ntotal_inactive_file 1073741824\n");
    CHECK(processor_quota(machine.root()) == 2.0);
    CHECK(host_memory(machine.root()) == HostMemory{4 * kGiB, 2 * kGiB});
    machine.with("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
        .with("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK(std::isinf(processor_quota(machine.root())));
    CHECK(host_memory(machine.root()).total == 9223372036854771712u);
}

TEST_CASE("damaged and foreign control group files limit nothing", "[core][limits]") {
    Machine machine;
    machine.with("proc/meminfo", "MemTotal: much\nMemAvailable:\n")
        .with("proc/self/cgroup", "nonsense\n\n0::/../../outside\n0:::\n1:cpu\n")
        .with("sys/fs/cgroup/cpu.max", "0 0\n")
        .with("sys/fs/cgroup/memory.max", "-5\n");
    CHECK(std::isinf(processor_quota(machine.root())));
    CHECK(host_memory(machine.root()) == HostMemory{});
}

TEST_CASE("memory that the machine does not have is refused, not killed for", "[core][limits]") {
    CpuDevice device(1);
    const HostMemory memory = host_memory();
    REQUIRE(memory.available < memory.total);
    for (const uint64_t bytes : {memory.total + 1, memory.total - memory.total / 256}) {
        try {
            device.allocate(bytes, "weights");
            FAIL("granted");
        } catch (const Error& error) {
            CHECK(error.code() == ExitCode::out_of_memory);
            const std::string message = error.what();
            CHECK(message.find("'weights'") != std::string::npos);
            CHECK(message.find(" MiB are free of the ") != std::string::npos);
        }
    }
}

}  // namespace trireme
