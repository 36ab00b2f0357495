#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// What TensorBoard's event files hold: messages in the encoding of protocol buffers, each in a
// frame with checksums. Pure functions of their arguments; wall_time is in seconds since 1970.

namespace trireme {

struct EventScalar {
    std::string_view tag;
    double value = 0;  // kept as a float
};

// The first message of a file.
std::string version_event(double wall_time);
// A program begins at `step`: TensorBoard forgets what it has read of this and later steps.
std::string start_event(double wall_time, int64_t step);
std::string scalars_event(double wall_time, int64_t step, std::span<const EventScalar> scalars);
// TensorBoard shows the text as Markdown.
std::string text_event(double wall_time, int64_t step, std::string_view tag, std::string_view text);

// A message as it stands in the file: length, checksum of the length, message, its checksum.
std::string framed_event(std::string_view event);

}  // namespace trireme
