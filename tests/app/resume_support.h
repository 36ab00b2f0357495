#pragma once

#include <string>

#include "tests/model/training_support.h"

// Training in stretches with checkpoints between, ranks as threads.

namespace trireme::test {

struct Stretch {
    int first_step = 1;
    int last_step = 0;   // before the first: only load and save
    std::string load{};  // step folder, empty: start from the seed
    std::string save{};  // folder for step-N, empty: do not save
};

// A stretch of the scenario on a mesh of its own.
Curve run_stretch(const Scenario& scenario, const Stretch& stretch);

// The step folder in a checkpoints folder.
std::string newest(const std::string& folder);

// All parameters and moments, bit for bit, in whichever pieces they lie in the files.
void require_same_contents(const std::string& folder, const std::string& expected_folder);

constexpr MeshShape mesh_of(int tensor, int pipeline, int data, int context = 1) {
    return {.tensor = tensor, .context = context, .data = data, .pipeline = pipeline};
}

Scenario scenario_of(Family family, const MeshShape& mesh, int zero, DType compute);

}  // namespace trireme::test
