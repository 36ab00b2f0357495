#include "app/commands.h"
#include "app/config.h"
#include "app/rank_errors.h"
#include "app/trainer.h"

namespace trireme {

int train_command(const TrainArguments& arguments) {
    return run_as_rank([&](World& world) {
        const Config config = load_config(arguments.config, arguments.sets, world.size());
        Trainer trainer(world, config);
        end_ranks_on_failure(world, [&] { trainer.run(); });
    });
}

}  // namespace trireme
