#pragma once

#include <vector>

#include "app/schema.h"

namespace trireme {

using Rows = std::vector<SchemaRow>;

// The parts of the schema that say how training goes, in their order; the others stand in
// schema.cpp.
Rows training_rows();  // precision, recompute, optimizer, schedule
Rows record_rows();    // checkpoint, evaluation, logging
Rows numerics_rows();
Rows testing_rows();

}  // namespace trireme
