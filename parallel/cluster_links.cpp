#include "parallel/cluster_links.h"

#include <algorithm>
#include <bit>
#include <map>

namespace trireme {

LinkSpeed ClusterLinks::between(int rank, int other) const {
    return rank / devices_per_node == other / devices_per_node ? node : network;
}

LinkSpeed ClusterLinks::around(std::span<const int> members) const {
    std::map<int, int> by_node;
    for (const int member : members) ++by_node[member / devices_per_node];
    if (by_node.size() <= 1) return node;
    const int fewest =
        std::min_element(by_node.begin(), by_node.end(), [](const auto& one, const auto& other) {
            return one.second < other.second;
        })->second;
    double bandwidth = fewest * network.bytes_per_second;
    if (fewest > 1) bandwidth = std::min(bandwidth, node.bytes_per_second);
    return {bandwidth, network.latency_seconds};
}

double ring_bytes(Collective kind, int n, double bytes) {
    if (kind == Collective::broadcast) return bytes;
    const double passes = kind == Collective::all_reduce ? 2.0 : 1.0;
    return passes * ((n - 1.0) / n) * bytes;
}

int tree_steps(Collective kind, int n) {
    const int steps = std::bit_width(static_cast<unsigned>(n - 1));
    return kind == Collective::all_reduce ? 2 * steps : steps;
}

double collective_seconds(Collective kind, int n, double bytes, const LinkSpeed& link) {
    if (n <= 1) return 0.0;
    return ring_bytes(kind, n, bytes) / link.bytes_per_second +
           tree_steps(kind, n) * link.latency_seconds;
}

}  // namespace trireme
