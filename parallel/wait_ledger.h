#pragma once

#include <array>
#include <string>

#include "core/stream.h"

namespace trireme {

// What a communicator's ranks have in common: an axis of the mesh, or all of it.
enum class MeshAxis { tensor, context, data, pipeline, all };

// The axis of a mesh's communicator, by its name: "tensor_kv" belongs to tensor, and the
// "embedding" of first and last stage to pipeline. Unknown names: all.
MeshAxis axis_of(const std::string& communicator);
const char* name_of(MeshAxis axis);

// Seconds for each axis.
struct AxisSeconds {
    double tensor = 0.0;
    double context = 0.0;
    double data = 0.0;
    double pipeline = 0.0;    // the schedule's own bubble is part of it
    double neighbours = 0.0;  // of pipeline: for other stages, without a tied embedding's gradient

    AxisSeconds& operator+=(const AxisSeconds& other);
    double collectives() const { return tensor + context + data; }
    double total() const { return collectives() + pipeline; }
};

// How long this rank's compute has stood still for each axis. Streams add to it on their own, for
// the events of every communicator whose waits are put down to an account of this.
class WaitLedger {
public:
    WaitLedger();

    // For the events of the communicator with this name.
    WaitAccount& of(const std::string& communicator);
    // Since the last reset; on a GPU as of the last synchronisation of its stream.
    AxisSeconds seconds() const;
    void reset();
    // Where waits that last are recorded from now on; may be null.
    void set_trace(Trace* trace);

private:
    static constexpr size_t kEmbedding = 5;  // the pipeline's, beside that of its neighbours
    std::array<WaitAccount, 6> accounts_;    // of each axis, and kEmbedding
};

}  // namespace trireme
