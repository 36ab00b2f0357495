#pragma once

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace trireme {

// What one thread does for one queue. To ThreadSanitizer each lane is a thread of its own, so that
// waiting for one queue does not count as having waited for the others as well. Without the
// sanitizer a lane is nothing.
class Lane {
public:
    Lane() = default;
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

#if defined(__SANITIZE_THREAD__)
    ~Lane() {
        if (fiber_) __tsan_destroy_fiber(fiber_);
    }
    template <typename Work> void run(const Work& work) {
        if (!fiber_) fiber_ = __tsan_create_fiber(0);
        void* thread = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(fiber_, __tsan_switch_to_fiber_no_sync);
        try {
            work();
        } catch (...) {
            __tsan_switch_to_fiber(thread, 0);
            throw;
        }
        __tsan_switch_to_fiber(thread, __tsan_switch_to_fiber_no_sync);
    }
    // The thread that runs the lane has waited for it.
    void join() {
        if (!fiber_) return;
        void* thread = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(fiber_, __tsan_switch_to_fiber_no_sync);
        __tsan_switch_to_fiber(thread, 0);
    }

private:
    void* fiber_ = nullptr;
#else
    template <typename Work> void run(const Work& work) { work(); }
    void join() {}
#endif
};

}  // namespace trireme
