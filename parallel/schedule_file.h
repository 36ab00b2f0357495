#pragma once

#include <string>
#include <string_view>

#include "parallel/schedule.h"

namespace trireme {

// A program as text, to be written by hand or by another tool:
//
//   # placement=vee chunks=2
//   # Lines that begin with # are comments; one in which every word is NAME=VALUE holds settings.
//   F0, F1, F0.1, F1.1, I0.1, W0.1, ...
//   F0, F0.1, F1, F1.1, ...
//
// One row a rank, from rank 0 on; its actions in order, between commas. An action is a letter (F
// forward, B backward, I backward_input, W backward_weight), the micro-batch and, unless it is 0,
// the chunk behind a dot. Spaces and empty cells mean nothing, so that rows can be aligned by time.
// Settings come before the first row: placement (loop or vee; loop), chunks (1) and
// wrap_receives_ahead (1).
//
// Both reading functions throw Error (config) for whatever is wrong, with row (of the file, from
// 1) and column (the cell, from 1), find_schedule_error included.
ScheduleProgram parse_schedule(std::string_view text, const std::string& name, int stages,
                               int micro_batches);
ScheduleProgram read_schedule_file(const std::string& path, int stages, int micro_batches);

// An action as it is written in a file: F3, W0.1.
std::string cell_of(const Action& action);

// The same program comes back from parse_schedule.
std::string write_schedule(const ScheduleProgram& program);

}  // namespace trireme
