#pragma once

#include "parallel/schedule.h"

namespace trireme {

// Plays the steps of one rank's plan and requires that slots and buffers are free when they are
// taken and hold what each step needs, and that receives and sends keep what find_schedule_error
// takes for granted of the runtime.
void check_plan(const ScheduleProgram& program, int rank);

}  // namespace trireme
