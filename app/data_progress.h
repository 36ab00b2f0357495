#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace trireme {

// How much data a training has taken after each of its steps, those of earlier starts included,
// which may have had other batches or samples of another length. Where a step of the past ended
// must not depend on how often the training was interrupted since.
class DataProgress {
public:
    // What has been taken up to the end of a step.
    struct Point {
        int64_t step = 0, samples = 0, tokens = 0;
    };

    // Of a fresh start: all steps take `batch` samples of `sequence_length` tokens.
    DataProgress(int64_t batch, int64_t sequence_length)
        : batch_(batch), sequence_length_(sequence_length) {}

    // The steps behind the checkpoint's take such batches. Those up to it took what its
    // CheckpointState::extra tells under kDataProgress; where nothing is, or nothing that can be,
    // they count as equal.
    void go_on_from(const Point& checkpoint, const std::map<std::string, std::string>& extra);

    int64_t samples_after(int64_t step) const;
    int64_t tokens_after(int64_t step) const;
    // Whether every step, before and after the checkpoint, takes the present batch.
    bool is_even() const;

    std::string text() const;

private:
    int64_t after(int64_t step, int64_t Point::*amount, int64_t in_step) const;

    int64_t batch_, sequence_length_;
    // Where steps began to take another amount, and where the present ones begin.
    std::vector<Point> points_{Point{}};
};

}  // namespace trireme
