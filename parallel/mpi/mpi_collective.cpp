#include "parallel/mpi/mpi_collective.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "parallel/rank_order_reduce.h"

namespace trireme {

namespace {

// Bounds the memory for parts to add; longer operations go in pieces.
constexpr size_t kScratchBytes = size_t{2} << 20;
// More bytes a rank that cost less than one more round.
constexpr size_t kRoundBytes = size_t{128} << 10;

std::byte* offset(void* buffer, size_t bytes) { return static_cast<std::byte*>(buffer) + bytes; }
const std::byte* offset(const void* buffer, size_t bytes) {
    return static_cast<const std::byte*>(buffer) + bytes;
}

}  // namespace

MpiCollective::MpiCollective(MPI_Comm comm, int tag, std::vector<int> ranks, int rank)
    : comm_(comm), tag_(tag), ranks_(std::move(ranks)), rank_(rank),
      size_(static_cast<int>(ranks_.size())), sources_(ranks_.size()) {}

size_t MpiCollective::bytes(int64_t elements) const {
    return static_cast<size_t>(elements) * size_of(operation_.dtype);
}

MpiCollective::Range MpiCollective::part_of(int member) const {
    const int64_t begin = piece_.count * member / size_;
    const int64_t end = piece_.count * (member + 1) / size_;
    return {piece_.begin + begin, end - begin};
}

void MpiCollective::send(int member, const void* buffer, Range range) {
    requests_.send({comm_, ranks_[static_cast<size_t>(member)], tag_},
                   offset(buffer, bytes(range.begin)), bytes(range.count));
}

void MpiCollective::receive(int member, void* buffer, Range range) {
    requests_.receive({comm_, ranks_[static_cast<size_t>(member)], tag_},
                      offset(buffer, bytes(range.begin)), bytes(range.count));
}

void MpiCollective::receive_to_add(int member, int64_t elements) {
    const int place = member < rank_ ? member : member - 1;
    std::byte* memory = scratch_.get() + static_cast<size_t>(place) * scratch_stride_;
    sources_[static_cast<size_t>(member)] = memory;
    receive(member, memory, {0, elements});
}

void MpiCollective::add(const void* buffer, Range own, void* result) {
    const void* mine = offset(buffer, bytes(own.begin));
    sources_[static_cast<size_t>(rank_)] = mine;
    reduce_in_rank_order(sources_.data(), size_, own.count, operation_.dtype, operation_.reduce,
                         result);
}

void MpiCollective::start(const Operation& operation) {
    operation_ = operation;
    const OperationKind kind = operation.kind;
    const size_t others = static_cast<size_t>(size_ - 1);
    const bool adds = kind == OperationKind::all_reduce || kind == OperationKind::reduce_scatter;
    two_rounds_ = (kind == OperationKind::all_reduce || kind == OperationKind::broadcast) &&
                  operation.bytes() * (others - 1) > kRoundBytes;
    piece_limit_ = std::numeric_limits<int64_t>::max();
    if (adds && operation.elements > 0) {
        const size_t part_limit = std::max<size_t>(kScratchBytes / others / 64 * 64, 64);
        const int64_t in_part = static_cast<int64_t>(part_limit / size_of(operation.dtype));
        piece_limit_ = two_rounds_ ? in_part * size_ : in_part;
        const size_t largest = two_rounds_ ? operation.bytes() / (others + 1) + 64
                                           : operation.bytes();
        scratch_stride_ = (std::min(part_limit, largest) + 63) / 64 * 64;
        if (scratch_stride_ * others > scratch_bytes_) {
            scratch_bytes_ = scratch_stride_ * others;
            scratch_ = std::make_unique_for_overwrite<std::byte[]>(scratch_bytes_);
        }
    }
    begin_piece(0);
}

MpiCollective::State MpiCollective::advance() {
    if (!requests_.test()) return State::waiting;
    finish_round();
    if (two_rounds_ && round_ == 0) {
        round_ = 1;
        post();
        return State::moved;
    }
    const int64_t end = piece_.begin + piece_.count;
    if (end == operation_.elements) return State::done;
    begin_piece(end);
    return State::moved;
}

void MpiCollective::begin_piece(int64_t begin) {
    piece_ = {begin, std::min(piece_limit_, operation_.elements - begin)};
    round_ = 0;
    post();
}

// Messages of one member to another keep their order, so both sides post the same sequence.
void MpiCollective::post() {
    if (operation_.kind == OperationKind::broadcast) {
        post_broadcast();
        return;
    }
    if (operation_.kind == OperationKind::all_gather) {
        std::byte* own = offset(operation_.output, operation_.bytes() * static_cast<size_t>(rank_));
        if (own != operation_.input && operation_.elements > 0) {
            std::memcpy(own, operation_.input, operation_.bytes());
        }
    }
    if (operation_.kind == OperationKind::all_to_all && operation_.elements > 0) {
        const size_t own = operation_.bytes() * static_cast<size_t>(rank_);
        std::memcpy(offset(operation_.output, own), offset(operation_.input, own),
                    operation_.bytes());
    }
    for (int distance = 1; distance < size_; ++distance) {
        post_to((rank_ + distance) % size_, (rank_ + size_ - distance) % size_);
    }
}

void MpiCollective::post_to(int to, int from) {
    const int64_t elements = operation_.elements;
    switch (operation_.kind) {
        case OperationKind::all_gather:
            receive(from, operation_.output, {elements * from, elements});
            send(to, operation_.input, {0, elements});
            break;
        case OperationKind::reduce_scatter:
            receive_to_add(from, piece_.count);
            send(to, operation_.input, {elements * to + piece_.begin, piece_.count});
            break;
        case OperationKind::all_reduce:
            if (round_ == 1) {
                receive(from, operation_.output, part_of(from));
                send(to, operation_.output, part_of(rank_));
            } else if (two_rounds_) {
                receive_to_add(from, part_of(rank_).count);
                send(to, operation_.output, part_of(to));
            } else {
                receive_to_add(from, piece_.count);
                send(to, operation_.output, piece_);
            }
            break;
        case OperationKind::all_to_all:
            receive(from, operation_.output, {elements * from, elements});
            send(to, operation_.input, {elements * to, elements});
            break;
        case OperationKind::barrier:
            receive(from, nullptr, {0, 0});
            send(to, nullptr, {0, 0});
            break;
        case OperationKind::broadcast:
        case OperationKind::send:
        case OperationKind::recv: break;
    }
}

void MpiCollective::post_broadcast() {
    const int root = operation_.peer;
    if (round_ == 0 && rank_ != root) {
        receive(root, operation_.output, two_rounds_ ? part_of(rank_) : piece_);
        return;
    }
    for (int distance = 1; distance < size_; ++distance) {
        const int to = (rank_ + distance) % size_;
        const int from = (rank_ + size_ - distance) % size_;
        if (round_ == 0) {
            send(to, operation_.output, two_rounds_ ? part_of(to) : piece_);
        } else {
            if (rank_ != root) receive(from, operation_.output, part_of(from));
            if (to != root) send(to, operation_.output, part_of(rank_));
        }
    }
}

void MpiCollective::finish_round() {
    if (round_ == 1 || operation_.elements == 0) return;
    if (operation_.kind == OperationKind::all_reduce) {
        const Range own = two_rounds_ ? part_of(rank_) : piece_;
        add(operation_.output, own, offset(operation_.output, bytes(own.begin)));
    } else if (operation_.kind == OperationKind::reduce_scatter) {
        add(operation_.input, {operation_.elements * rank_ + piece_.begin, piece_.count},
            offset(operation_.output, bytes(piece_.begin)));
    }
}

}  // namespace trireme
