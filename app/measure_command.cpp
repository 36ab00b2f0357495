#include <string>

#include "app/cluster_file.h"
#include "app/commands.h"
#include "app/rank_errors.h"
#include "app/speed_measurement.h"
#include "app/standard_output.h"
#include "core/error.h"
#include "parallel/control_group.h"
#include "parallel/device_world.h"

namespace trireme {

namespace {

void check_order(const World& world) {
    const int per_node = world.local_size();
    if (world.size() % per_node == 0 && world.local_rank() == world.rank() % per_node) return;
    throw Error(ExitCode::config,
                "found process " + std::to_string(world.rank()) + " of " +
                    std::to_string(world.size()) + " as number " +
                    std::to_string(world.local_rank()) + " of " + std::to_string(per_node) +
                    " on its machine, expected equally many on each, in order of the machines; "
                    "start them with mpirun --map-by ppr:N:node or srun --ntasks-per-node=N");
}

// A step goes on when the slowest rank has done its part.
DeviceSpeed slowest_of(ControlGroup& control, DeviceSpeed speed) {
    const auto lower = [&](double& rate) { rate = 1.0 / control.largest(1.0 / rate); };
    for (DeviceSpeed::Rates* rates : {&speed.f32, &speed.bf16}) {
        lower(rates->matmul);
        lower(rates->attention);
    }
    lower(speed.memory_bytes_per_second);
    speed.operation_seconds = control.largest(speed.operation_seconds);
    return speed;
}

}  // namespace

int measure_command(const MeasureArguments& arguments) {
    return run_as_rank([&](World& world) {
        end_ranks_on_failure(world, [&] {
            check_order(world);
            LibraryOutput output;
            DeviceOptions options;
            options.backend = arguments.backend;
            options.threads = arguments.threads;
            ControlGroup control(world, "control");
            const auto device = make_device(options, world.local_rank(), world.local_size());
            const auto device_world = make_device_world(world, *device);
            control.barrier();

            Cluster cluster;
            cluster.device = slowest_of(control, measure_device(*device));
            cluster.links = measure_links(*device_world, *device);
            cluster.nodes = world.size() / cluster.links.devices_per_node;
            cluster.backend = device->backend();
            // Processes share a machine's memory, not a GPU's.
            const int sharers = cluster.backend == Backend::cpu ? world.local_size() : 1;
            cluster.memory_bytes = device->memory_bytes() / static_cast<uint64_t>(sharers);
            cluster.peak_f32 = device->peak_flops_per_second(DType::f32);
            cluster.peak_bf16 = device->peak_flops_per_second(DType::bf16);
            if (world.rank() == 0) {
                output.print("# Each of " + std::to_string(world.size()) +
                             " processes at the same time: " + device->description() + ".\n" +
                             dump_cluster(cluster));
            }
            control.barrier();
        });
    });
}

}  // namespace trireme
