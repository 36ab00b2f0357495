#include "tests/app/process_support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

// Only for what hangs: several processes of a sanitizer's build start slowly on a busy machine.
constexpr auto kTimeLimit = std::chrono::seconds(120);

}  // namespace

std::string small_text(int lines) {
    std::string text;
    for (int i = 0; i < lines; ++i) text += "line " + std::to_string(i * i) + " of a small text\n";
    return text;
}

Outcome run_program(const Arguments& command, const std::string& folder) {
    const TemporaryFolder capture;
    const std::string out_path = capture.path() + "/out", error_path = capture.path() + "/error";
    std::vector<char*> argv;
    for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        const int in = open("/dev/null", O_RDONLY);
        const int out = open(out_path.c_str(), O_WRONLY | O_CREAT, 0600);
        const int error = open(error_path.c_str(), O_WRONLY | O_CREAT, 0600);
        if (chdir(folder.c_str()) != 0) _exit(127);
        dup2(in, 0);
        dup2(out, 1);
        dup2(error, 2);
        execvp(argv[0], argv.data());
        _exit(127);
    }
    REQUIRE(child > 0);
    const auto begin = std::chrono::steady_clock::now();
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (std::chrono::steady_clock::now() - begin > kTimeLimit) {
            kill(-child, SIGKILL);
            waitpid(child, &status, 0);
            break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(out_path),
            read_text(error_path)};
}

Outcome trireme_in(const std::string& folder, Arguments arguments, int processes) {
    arguments.insert(arguments.begin(), TRIREME_BINARY_DIR "/bin/trireme");
    if (processes > 1) {
        // MPI itself leaks at its end.
        const Arguments launcher = {"env",
                                    "ASAN_OPTIONS=detect_leaks=0",
                                    "mpirun",
                                    "--allow-run-as-root",
                                    "--oversubscribe",
                                    "-n",
                                    std::to_string(processes)};
        arguments.insert(arguments.begin(), launcher.begin(), launcher.end());
    }
    return run_program(arguments, folder);
}

}  // namespace trireme::test
