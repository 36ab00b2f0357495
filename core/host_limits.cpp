#include "core/host_limits.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

namespace trireme {

namespace {

// The number that a file begins with; none where it says "max" or -1, or is not there.
std::optional<uint64_t> number_in(const std::string& path) {
    std::ifstream file(path);
    int64_t number = -1;
    if (!(file >> number) || number < 0) return std::nullopt;
    return static_cast<uint64_t>(number);
}

// The last number behind a name that begins a line: "MemTotal: 16 kB", "size 4 1024".
std::optional<uint64_t> number_of(const std::string& path, const std::string& name) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string first;
        if (!(words >> first) || first != name) continue;
        std::optional<uint64_t> last;
        for (uint64_t number = 0; words >> number;) last = number;
        return last;
    }
    return std::nullopt;
}

// Bytes that the cache of the file system ZFS would give back, which the kernel counts as used.
uint64_t zfs_cache(const std::string& root) {
    const std::string path = root + "/proc/spl/kstat/zfs/arcstats";
    const uint64_t size = number_of(path, "size").value_or(0);
    return size - std::min(size, number_of(path, "c_min").value_or(size));
}

bool has_name(const std::string& list, const std::string& name) {
    return ("," + list + ",").find("," + name + ",") != std::string::npos;
}

// A control group's folder in a hierarchy of this version.
struct Group {
    int version;
    std::string folder;
};

// The groups of this process that may limit `controller`, each with all above it.
std::vector<Group> groups_of(const std::string& root, const std::string& controller) {
    std::vector<Group> groups;
    std::ifstream file(root + "/proc/self/cgroup");
    std::string line;
    while (std::getline(file, line)) {  // hierarchy:controllers:path
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool unified = controllers.empty();
        if (!unified && !has_name(controllers, controller)) continue;
        const std::string mounts = root + "/sys/fs/cgroup";
        std::vector<std::string> tops{mounts + (unified ? "" : "/" + controllers)};
        if (!unified && controllers != controller) tops.push_back(mounts + "/" + controller);
        for (const std::string& top : tops) {
            std::string path = line.substr(second + 1);
            // Of a group outside the container's view only the top can be read.
            if (path.find("..") != std::string::npos) path.clear();
            while (true) {
                while (path.ends_with('/')) path.pop_back();
                groups.push_back({unified ? 2 : 1, top + path});
                if (path.empty()) break;
                path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
            }
        }
    }
    return groups;
}

std::optional<double> quota_of(const Group& group) {
    if (group.version == 1) {
        const auto quota = number_in(group.folder + "/cpu.cfs_quota_us");
        const auto period = number_in(group.folder + "/cpu.cfs_period_us");
        if (!quota || !period || *period == 0) return std::nullopt;
        return static_cast<double>(*quota) / static_cast<double>(*period);
    }
    std::ifstream file(group.folder + "/cpu.max");
    double quota = 0, period = 0;  // "max" is no number
    if (!(file >> quota >> period) || !(quota > 0) || !(period > 0)) return std::nullopt;
    return quota / period;
}

void apply_limit(const Group& group, HostMemory& memory) {
    const bool old = group.version == 1;
    const auto limit = number_in(group.folder + (old ? "/memory.limit_in_bytes" : "/memory.max"));
    if (!limit) return;
    memory.total = std::min(memory.total, *limit);
    const auto used =
        number_in(group.folder + (old ? "/memory.usage_in_bytes" : "/memory.current"));
    if (!used) return;
    uint64_t droppable = 0;
    for (const std::string name : {"active_file", "inactive_file"}) {
        droppable +=
            number_of(group.folder + "/memory.stat", (old ? "total_" : "") + name).value_or(0);
    }
    const uint64_t held = *used - std::min(*used, droppable);
    memory.available = std::min(memory.available, *limit - std::min(*limit, held));
}

}  // namespace

double processor_quota(const std::string& root) {
    double quota = std::numeric_limits<double>::infinity();
    for (const Group& group : groups_of(root, "cpu")) {
        if (const auto own = quota_of(group)) quota = std::min(quota, *own);
    }
    return quota;
}

HostMemory host_memory(const std::string& root) {
    HostMemory memory;
    const std::string path = root + "/proc/meminfo";
    constexpr uint64_t kKiB = 1024;
    if (const auto total = number_of(path, "MemTotal:")) memory.total = *total * kKiB;
    if (const auto available = number_of(path, "MemAvailable:")) {
        memory.available = (*available + number_of(path, "SwapFree:").value_or(0)) * kKiB;
        memory.available += zfs_cache(root);
    }
    for (const Group& group : groups_of(root, "memory")) apply_limit(group, memory);
    return memory;
}

}  // namespace trireme
