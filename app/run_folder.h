#pragma once

#include <string>

#include "app/config.h"
#include "app/resume.h"
#include "core/log.h"

namespace trireme {

// Throws Error (output_busy) unless the run folder could be made and written. Makes nothing:
// nothing is written before the data and the checkpoint have been found good.
void check_run_folder(const std::string& folder);

// Makes the folder ready for a run that goes on from `resumed`: checkpoints of later steps are set
// aside, which is logged, what interrupted saves left and traces of earlier runs are removed, the
// resume is recorded and the configuration written. One rank calls it, which has made the folder
// and locked it. Throws Error (io, output_busy).
void prepare_run_folder(const Config& config, const ResumePoint& resumed, Log& log);

}  // namespace trireme
