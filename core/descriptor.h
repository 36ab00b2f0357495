#pragma once

#include <unistd.h>

#include <utility>

namespace trireme {

// A file descriptor that closes itself, whatever open() has returned.
class Descriptor {
public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0) close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    bool is_open() const { return number_ >= 0; }
    int number() const { return number_; }
    // The caller closes it from now on.
    int release() { return std::exchange(number_, -1); }

private:
    int number_;
};

}  // namespace trireme
