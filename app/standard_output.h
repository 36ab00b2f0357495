#pragma once

namespace trireme {

// Throws Error (io) when something that was printed did not get out, whichever call met the full
// disk or the closed pipe.
void check_standard_output();

}  // namespace trireme
