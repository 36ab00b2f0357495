#include "parallel/cluster_links.h"

#include <algorithm>
#include <bit>
#include <map>

namespace trireme {

namespace {

std::map<int, int> members_by_node(std::span<const int> members, int devices_per_node) {
    std::map<int, int> by_node;
    for (const int member : members) ++by_node[member / devices_per_node];
    return by_node;
}

}  // namespace

LinkSpeed ClusterLinks::between(int rank, int other) const {
    return rank / devices_per_node == other / devices_per_node ? node : network;
}

LinkSpeed ClusterLinks::around(std::span<const int> members) const {
    const std::map<int, int> by_node = members_by_node(members, devices_per_node);
    if (by_node.size() <= 1) return node;
    const int fewest =
        std::min_element(by_node.begin(), by_node.end(), [](const auto& one, const auto& other) {
            return one.second < other.second;
        })->second;
    double bandwidth = fewest * network.bytes_per_second;
    if (fewest > 1) bandwidth = std::min(bandwidth, node.bytes_per_second);
    return {bandwidth, network.latency_seconds};
}

LinkSpeed ClusterLinks::among(std::span<const int> members) const {
    const std::map<int, int> by_node = members_by_node(members, devices_per_node);
    if (by_node.size() <= 1) return node;
    const double others = static_cast<double>(members.size()) - 1.0;
    double seconds = 0.0;  // in which the slowest member sends a byte to each other
    for (const auto& [number, here] : by_node) {
        const double inside = here - 1.0;
        seconds = std::max(seconds, (others - inside) / network.bytes_per_second);
        if (inside > 0.0) seconds = std::max(seconds, inside / node.bytes_per_second);
    }
    return {others / seconds, network.latency_seconds};
}

double ring_bytes(Collective kind, int n, double bytes) {
    if (kind == Collective::broadcast) return bytes;
    const double passes = kind == Collective::all_reduce ? 2.0 : 1.0;
    return passes * ((n - 1.0) / n) * bytes;
}

int tree_steps(Collective kind, int n) {
    if (kind == Collective::all_to_all) return n > 1 ? 1 : 0;
    const int steps = std::bit_width(static_cast<unsigned>(n - 1));
    return kind == Collective::all_reduce ? 2 * steps : steps;
}

double collective_seconds(Collective kind, int n, double bytes, const LinkSpeed& link) {
    if (n <= 1) return 0.0;
    return ring_bytes(kind, n, bytes) / link.bytes_per_second +
           tree_steps(kind, n) * link.latency_seconds;
}

}  // namespace trireme
