#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace trireme::test {

// One message of a TensorBoard event file, read by code that shares nothing with what wrote it.
struct ReadEvent {
    double wall_time = 0;
    int64_t step = 0;
    bool starts_session = false;
    std::string file_version;
    std::map<std::string, float> scalars;      // by tag
    std::map<std::string, std::string> texts;  // by tag
};

// Throws std::runtime_error where a length, a checksum or a message is wrong.
std::vector<ReadEvent> read_event_file(const std::string& path);

// The event files of a folder in the order in which TensorBoard reads them.
std::vector<std::string> event_files(const std::string& folder);

// What TensorBoard would show: (tag, step) to value, without the points that a later start or an
// earlier step of the same tag has made obsolete.
std::map<std::pair<std::string, int64_t>, float> shown_scalars(const std::string& folder);

}  // namespace trireme::test
