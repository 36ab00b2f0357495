#pragma once

#include <exception>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace trireme {

// Another world in all, but for the groups that who derives from this makes in another way.
class ForwardingWorld : public World {
public:
    explicit ForwardingWorld(World& world) : world_(world) {}

    int rank() const override { return world_.rank(); }
    int size() const override { return world_.size(); }
    int local_rank() const override { return world_.local_rank(); }
    int local_size() const override { return world_.local_size(); }

    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse use) override {
        return world_.split(color, key, name, use);
    }
    [[noreturn]] void abort(int exit_code) override {
        world_.abort(exit_code);
        std::terminate();  // not reached, which the compiler does not see through a virtual call
    }
    ActivityBoard& activity() override { return world_.activity(); }

private:
    World& world_;
};

}  // namespace trireme
