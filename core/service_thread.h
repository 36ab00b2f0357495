#pragma once

#include <functional>
#include <thread>

namespace trireme {

// Starts a thread that serves the program: named so in debuggers (15 characters at most), and deaf
// to signals, which are for the program's own threads. Throws std::system_error.
std::thread start_service_thread(const char* name, std::function<void()> body);

}  // namespace trireme
