#pragma once

#include <cstdint>
#include <string>

namespace trireme {

// Names in a checkpoints folder: step-00000100 is a checkpoint, step-00000100.tmp-ID one being
// written or left by an interrupted save, .trash-NAME one being deleted.
inline constexpr const char* kTemporaryMark = ".tmp-";
inline constexpr const char* kTrashPrefix = ".trash-";

std::string step_folder_name(int64_t step);

}  // namespace trireme
