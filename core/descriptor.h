#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace trireme {

// A file descriptor that closes itself, whatever open() has returned.
class Descriptor {
public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0) close(number_);
    }
    Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
    Descriptor& operator=(Descriptor&&) = delete;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    bool is_open() const { return number_ >= 0; }
    int number() const { return number_; }
    // The caller closes it from now on.
    int release() { return std::exchange(number_, -1); }

private:
    int number_;
};

// Whether the path leads to the file that is open.
inline bool is_at(const std::string& path, int descriptor) {
    struct stat named {
    }, open{};
    return stat(path.c_str(), &named) == 0 && fstat(descriptor, &open) == 0 &&
           named.st_ino == open.st_ino && named.st_dev == open.st_dev;
}

}  // namespace trireme
