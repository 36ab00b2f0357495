#pragma once

#include "parallel/mesh.h"

namespace trireme {

// A mesh's sizes as every file and report has them. Json: nlohmann::json or ordered_json.
template <typename Json>
Json json_of(const MeshShape& mesh) {
    return {{"tensor", mesh.tensor},
            {"context", mesh.context},
            {"data", mesh.data},
            {"pipeline", mesh.pipeline}};
}

}  // namespace trireme
