#pragma once

#include <vector>

#include "app/schema.h"

namespace trireme {

using Rows = std::vector<SchemaRow>;

// The parts of the schema that say how ranks share the work and how training goes, in their order;
// those before them stand in schema.cpp.
Rows mesh_rows();
Rows parallel_rows();  // tensor_parallel, pipeline, data_parallel
Rows training_rows();  // precision, recompute, optimizer, schedule
Rows record_rows();    // checkpoint, evaluation, logging
Rows numerics_rows();
Rows testing_rows();

}  // namespace trireme
