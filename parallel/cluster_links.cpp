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

double collective_seconds(Collective kind, int n, double bytes, const LinkSpeed& link) {
    if (n <= 1) return 0.0;
    double moved = bytes, steps = std::bit_width(static_cast<unsigned>(n - 1));
    if (kind != Collective::broadcast) moved *= (n - 1.0) / n;
    if (kind == Collective::all_reduce) {
        moved *= 2.0;
        steps *= 2.0;
    }
    return moved / link.bytes_per_second + steps * link.latency_seconds;
}

}  // namespace trireme
