#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace trireme {

// A label that does not count in the loss.
inline constexpr int32_t kIgnoredLabel = -1;

// Training or evaluation samples by index. read() may be called from several threads.
class SampleSource {
public:
    virtual ~SampleSource() = default;

    virtual int64_t size() const = 0;  // samples
    virtual int64_t sequence_length() const = 0;

    // What the order of the samples comes from beside data and weights, in words: as long as it is
    // the same, a source that is made for more or fewer samples begins with the same ones. Empty:
    // the order is always the same.
    virtual std::string order_text() const { return {}; }

    // Sample `index` in [0, size()): tokens [T] and the labels [T] that follow each of them; a
    // label below zero does not count. Allocates as TokenSource::read does. Error(bad_data) when
    // the file has changed or holds an id outside the vocabulary.
    virtual void read(int64_t index, std::span<int32_t> tokens,
                      std::span<int32_t> labels) const = 0;

    // Which of the tokens 1 to T of the sample begin a document (T is the last label), ascending,
    // into the beginning of `begins` [T]; returns how many. A document is a sequence of the index,
    // which is told without reading tokens. In a text without an index it ends with the end of text
    // and with its file, and the sample's tokens are read. Allocates as read() does.
    virtual int64_t document_begins(int64_t index, std::span<int32_t> begins) const = 0;
};

}  // namespace trireme
