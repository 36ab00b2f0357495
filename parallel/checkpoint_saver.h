#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "core/error.h"
#include "parallel/checkpoint_save.h"
#include "parallel/checkpoint_snapshot.h"
#include "parallel/control_group.h"

namespace trireme {

// How a save went; the same on all ranks but for the seconds.
struct SaveReport {
    int64_t step = 0;
    double snapshot_seconds = 0;  // training stood still
    double write_seconds = 0;     // from then until the checkpoint had its name
    uint64_t bytes = 0;           // of all ranks' files
    std::optional<Error> error;   // nothing was saved; older checkpoints are as they were
};

// Saves checkpoints beside the training: a copy of the pieces at the step boundary, then the
// protocol of save_checkpoint, and the deletion of old ones, in a thread with a group of its own.
// Every rank makes the same calls. One save at a time.
class CheckpointSaver {
public:
    struct Options {
        std::string folder;         // of the step-* folders
        bool in_background = true;  // else begin() returns when all is written
        int keep = 3;               // see prune_checkpoints
        int64_t keep_every = 0;
    };

    // Collective. The world and the device outlive it.
    CheckpointSaver(World& control, Device& device, Options options);
    // Waits for a save that is under way.
    ~CheckpointSaver();
    CheckpointSaver(const CheckpointSaver&) = delete;
    CheckpointSaver& operator=(const CheckpointSaver&) = delete;

    // Host memory of this rank that a save of such pieces takes and keeps.
    uint64_t host_bytes(std::span<const CheckpointPiece> pieces) const;
    // Takes it now. Throws std::bad_alloc.
    void reserve(std::span<const CheckpointPiece> pieces);

    // Begins to save. The pieces' data lies in the device's memory and may change after the call.
    // No other save may be under way or unreported: call wait() before. What fails is reported.
    void begin(CheckpointState state, std::span<const CheckpointPiece> pieces);

    // The report of the save that was begun, when it is done; nothing when none was.
    std::optional<SaveReport> wait();
    bool is_writing();
    // Gives a save that is under way so long to end, when the run ends for another reason. Not
    // collective.
    void let_finish(std::chrono::seconds limit);
    // wait() if it is done on all ranks, without waiting for it. Collective over `control`, the
    // calling thread's group, so that all ranks hear of it at the same time.
    std::optional<SaveReport> poll(ControlGroup& control);

private:
    struct Job {
        CheckpointState state;
        std::span<const CheckpointPiece> pieces;
        double snapshot_seconds = 0;
        std::exception_ptr failure;  // of the snapshot
    };
    enum class Phase { idle, writing, done };

    void run();
    SaveReport write(const Job& job);
    bool copies() const;

    Device& device_;
    const Options options_;
    ControlGroup group_;  // only used by whoever writes
    CheckpointSnapshot snapshot_;

    std::mutex mutex_;
    std::condition_variable changed_;
    Phase phase_ = Phase::idle;
    bool stop_ = false;
    Job job_;
    SaveReport report_;
    std::thread thread_;
};

}  // namespace trireme
