#include <csignal>
#include <filesystem>

#include "app/commands.h"
#include "app/config.h"
#include "app/dataset_tokenizers.h"
#include "app/rank_agreement.h"
#include "app/rank_errors.h"
#include "app/run_guard.h"
#include "app/start_watch.h"
#include "app/trainer.h"
#include "core/log.h"
#include "parallel/checkpoint_folders.h"
#include "parallel/mpi/launcher.h"

namespace trireme {

namespace {

// A batch script that calls the program without srun trains in one process, whatever the job has.
void warn_when_alone(const World& world) {
    const Launcher launcher = find_launcher();
    if (world.size() > 1 || launcher.kind != Launcher::Kind::none || launcher.job_tasks < 2) return;
    Log(0, 1).warn("the Slurm job has " + std::to_string(launcher.job_tasks) +
                   " tasks (SLURM_NTASKS), but this is one process; to train in all of them start "
                   "it with srun --mpi=pmix");
}

void warn_of_tokenizers(const World& world, const Config& config) {
    if (world.rank() != 0) return;
    std::vector<DataSourceOptions> sources = config.data.train;
    sources.insert(sources.end(), config.data.valid.begin(), config.data.valid.end());
    const std::string warning = tokenizer_warning(sources, config);
    if (!warning.empty()) Log(world.rank(), world.size()).warn(warning);
}

// A run's config.yaml names the folder in which it ran: not the one in which it lies when that was
// moved, or when a relative run.output means another folder today.
void warn_of_checkpoints_beside(const World& world, const std::string& config_path,
                                const Config& config) {
    if (world.rank() != 0 || config.checkpoint.resume != "auto") return;
    namespace fs = std::filesystem;
    try {
        if (!list_checkpoints(checkpoints_folder_of(config.run.output)).empty()) return;
        const std::string beside = fs::weakly_canonical(config_path).parent_path().string();
        if (list_checkpoints(checkpoints_folder_of(beside)).empty()) return;
        Log(0, 1).warn("the folder of the configuration, " + beside +
                       ", holds checkpoints, but run.output is " +
                       fs::weakly_canonical(fs::absolute(config.run.output)).string() +
                       ", which holds none, so that training begins afresh; to go on from those, "
                       "stop and start with --set run.output=" +
                       beside);
    } catch (const Error&) {
        // What cannot be listed is no reason not to train.
    } catch (const fs::filesystem_error&) {
    }
}

}  // namespace

int train_command(const TrainArguments& arguments) {
    const int problem = check_before_joining(
        [&](int world) { load_config(arguments.config, arguments.sets, world); });
    if (problem != 0) return problem;
    // Who reads the log may end before the run does.
    std::signal(SIGPIPE, SIG_IGN);
    StopRequest stop;
    StartWatch start(start_limit_seconds(arguments.config, arguments.sets));
    ExitCode outcome = ExitCode::ok;
    const int code = run_as_rank([&](World& world) {
        const Config config = load_config(arguments.config, arguments.sets, world.size());
        warn_when_alone(world);
        check_same_config(world, config);
        warn_of_tokenizers(world, config);
        warn_of_checkpoints_beside(world, arguments.config, config);
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
