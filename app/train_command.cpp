#include "app/commands.h"
#include "app/config.h"
#include "app/rank_errors.h"
#include "app/run_guard.h"
#include "app/start_watch.h"
#include "app/trainer.h"

namespace trireme {

int train_command(const TrainArguments& arguments) {
    StopRequest stop;
    StartWatch start(start_limit_seconds(arguments.config, arguments.sets));
    ExitCode outcome = ExitCode::ok;
    const int code = run_as_rank([&](World& world) {
        const Config config = load_config(arguments.config, arguments.sets, world.size());
        RunGuard guard(world, config, stop);
        start.end();
        Trainer trainer(world, config, guard);
        end_ranks_on_failure(
            world, [&] { outcome = trainer.run(); },
            [&](ExitCode why, const std::string& message) { guard.failed(why, message); });
    });
    return code != 0 ? code : static_cast<int>(outcome);
}

}  // namespace trireme
