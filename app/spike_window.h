#pragma once

#include <cstddef>
#include <deque>
#include <string>

namespace trireme {

// How far a value lies from those before it, in their standard deviations. The same values give the
// same bits on every rank, and after a resume.
class SpikeWindow {
public:
    explicit SpikeWindow(int size) : size_(static_cast<size_t>(size)) {}

    // (value - mean) / standard deviation over the window; 0 until it is half full, when the value
    // is not finite, or when all in it are alike.
    double score(double value) const;
    size_t count() const { return values_.size(); }
    // Drops the oldest when full. Values that are not finite do not count.
    void add(double value);

    // The values, exactly; restore() takes such a text. Throws Error (bad_data) for another.
    std::string text() const;
    void restore(const std::string& text);

private:
    size_t size_;
    std::deque<double> values_;
};

}  // namespace trireme
