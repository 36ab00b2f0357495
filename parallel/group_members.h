#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace trireme {

struct ColorAndKey {
    int color = 0;
    int key = 0;
};

// The members of a group that World::split makes: the world ranks of this color, ordered by key,
// then by rank.
inline std::vector<int> group_members(const std::vector<ColorAndKey>& of_rank, int color) {
    std::vector<int> members;
    for (size_t r = 0; r < of_rank.size(); ++r) {
        if (of_rank[r].color == color) members.push_back(static_cast<int>(r));
    }
    std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
        return of_rank[static_cast<size_t>(a)].key < of_rank[static_cast<size_t>(b)].key;
    });
    return members;
}

// "group 'data' (ranks 0, 2)", of world ranks.
inline std::string group_text(const std::string& name, std::span<const int> ranks) {
    std::string text = "group '" + name + "' (ranks ";
    for (size_t i = 0; i < ranks.size(); ++i) {
        text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
    }
    return text + ")";
}

}  // namespace trireme
