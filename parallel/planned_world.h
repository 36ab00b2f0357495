#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/group_members.h"

namespace trireme {

// The ranks of a run that does not take place, to find out what each of them would make. Their
// groups have names, sizes and places; whoever sends something through them gets an InternalError.
class PlannedRanks {
public:
    // make_groups: the splits that every rank makes, in their order. It is called once a rank with
    // a world whose splits return null. `size` at least 1.
    PlannedRanks(int size, const std::function<void(World&)>& make_groups);

    // A group as one of its members sees it.
    struct Group {
        size_t number = 0;  // of the split that made it
        std::string name;
        int rank = 0;              // of this member
        std::vector<int> members;  // their ranks in the world
    };
    using GroupMaker = std::function<std::unique_ptr<Communicator>(const Group&)>;

    // Takes the same splits. Worlds and their groups outlive this object. make_group: makes other
    // groups than those above; may be empty.
    std::unique_ptr<World> world_of(int rank, GroupMaker make_group = {}) const;

private:
    using Splits = std::vector<std::vector<ColorAndKey>>;  // in order; what each rank asked for
    class RecordingWorld;
    class PlannedWorld;

    const int size_;
    std::shared_ptr<const Splits> splits_;
};

}  // namespace trireme
