#include "parallel/mpi/mpi_channel.h"

#include <utility>

#include "parallel/mpi/mpi_run.h"

namespace trireme {

MpiChannel::MpiChannel(MpiRun& run, const MpiLane& lane, std::string name, std::vector<int> ranks,
                       int rank, std::chrono::milliseconds timeout, ActivityBoard& board)
    : Channel(std::move(name), ranks, rank, timeout, board), run_(run), lane_(lane),
      collective_(lane.comm, lane.collective_tag, std::move(ranks), rank) {}

void MpiChannel::submit(const Operation& operation) {
    if (operation.kind == OperationKind::send) sends_.push(operation);
    else if (operation.kind == OperationKind::recv) receives_.push(operation);
    else collectives_.push(operation);
    run_.wake();
}

std::string MpiChannel::who_is_missing(OperationKind queue, uint64_t) {
    if (queue == OperationKind::send) return "the receiving rank has not arrived";
    if (queue == OperationKind::recv) return "the sending rank has not arrived";
    return "at least one of its ranks has not arrived";
}

void MpiChannel::give_up(const Error& error) { run_.give_up(error); }

bool MpiChannel::idle() {
    return !collective_in_flight_ && active_ == 0 && !collectives_.front() && !sends_.front() &&
           !receives_.front();
}

bool MpiChannel::progress() {
    // Receives first: a message that finds its buffer posted is not copied twice.
    bool moved = start_transfers(receives_);
    moved = start_transfers(sends_) || moved;
    moved = progress_collective() || moved;
    return finish_transfers() || moved;
}

bool MpiChannel::start_transfers(OperationQueue& queue) {
    bool started = false;
    while (const Operation* operation = queue.front()) {
        if (active_ == transfers_.size()) transfers_.emplace_back();
        Transfer& transfer = transfers_[active_++];
        transfer.operation = *operation;
        queue.pop();
        const MpiAddress peer{lane_.comm, world_rank(transfer.operation.peer), lane_.transfer_tag,
                              lane_.rendezvous};
        if (transfer.operation.kind == OperationKind::send) {
            transfer.requests.send(peer, transfer.operation.input, transfer.operation.bytes());
        } else {
            transfer.requests.receive(peer, transfer.operation.output, transfer.operation.bytes());
        }
        started = true;
    }
    return started;
}

bool MpiChannel::finish_transfers() {
    bool finished = false;
    for (size_t i = 0; i < active_;) {
        Transfer& transfer = transfers_[i];
        if (!transfer.requests.test()) {
            ++i;
            continue;
        }
        finish(transfer.operation);
        std::swap(transfer, transfers_[--active_]);
        finished = true;
    }
    return finished;
}

bool MpiChannel::progress_collective() {
    bool moved = false;
    if (!collective_in_flight_) {
        const Operation* operation = collectives_.front();
        if (!operation) return false;
        collective_operation_ = *operation;
        collective_.start(*operation);
        collectives_.pop();
        collective_in_flight_ = true;
        moved = true;
    }
    const MpiCollective::State state = collective_.advance();
    if (state == MpiCollective::State::done) {
        collective_in_flight_ = false;
        finish(collective_operation_);
    }
    return moved || state != MpiCollective::State::waiting;
}

}  // namespace trireme
