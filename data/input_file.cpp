#include "data/input_file.h"

#include "core/error.h"

namespace trireme {

InputFile::InputFile(const std::string& path)
    : file_(File::open(path)), size_(static_cast<int64_t>(file_.size())) {}

void InputFile::read(int64_t offset, void* to, int64_t bytes) const {
    const size_t done =
        file_.read_up_to(to, static_cast<size_t>(bytes), static_cast<uint64_t>(offset));
    if (done == static_cast<size_t>(bytes)) return;
    throw Error(ExitCode::bad_data,
                path() + " ends at byte " + std::to_string(offset + static_cast<int64_t>(done)) +
                    ", expected " + std::to_string(offset + bytes) + " bytes (it had " +
                    std::to_string(size_) +
                    " when opened); do not change a dataset while it is in use");
}

}  // namespace trireme
