#include "app/saved_model.h"

#include "app/model_checkpoint.h"
#include "app/rank_agreement.h"
#include "parallel/checkpoint_load.h"

namespace trireme {

SavedModel::SavedModel(World& world, const std::string& path, Log& log)
    : log_(log),
      folders_(agreed_checkpoints(world, path, log)),
      folder_(folders_.front()),
      state_(CheckpointReader(folder_).state()) {}

void SavedModel::load(RankSetup& setup) {
    const auto read = [&](CheckpointReader& reader) {
        state_ = reader.state();
        read_model(setup.engine(), reader);
    };
    const LoadChoice choice = load_first_sound(setup.control(), folders_, read,
                                               "give another step folder in --checkpoint");
    publish_model(setup.engine());
    folder_ = choice.folder;
    folders_ = {folder_};
    if (setup.control().rank() != 0) return;
    for (const std::string& reason : choice.skipped) log_.warn("skipped a checkpoint: " + reason);
}

}  // namespace trireme
