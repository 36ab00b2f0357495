#pragma once

#include <string>
#include <string_view>

namespace trireme {

// What it means for a resumed run that a key is not what it was in the run that wrote the
// checkpoint.
enum class ResumeClass {
    structural,   // the checkpoint does not fit: refused
    trajectory,   // fits, but training takes another course: warned about and recorded
    operational,  // no matter
};

std::string_view name_of(ResumeClass resume_class);

// The class of a key of the schema, trajectory for one that is in no table.
ResumeClass resume_class_of(const std::string& key);
// Whether a table has the key; tests ask it of every key of the schema.
bool has_resume_class(const std::string& key);

}  // namespace trireme
