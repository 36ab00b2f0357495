#include "core/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <string>

#include "core/error.h"

namespace trireme {

namespace {

using FileSink = spdlog::sinks::stdout_sink_base<spdlog::details::console_mutex>;

}  // namespace

struct Log::State {
    spdlog::logger logger;
    std::string prefix;  // "[rank 3] ", empty on rank 0
    bool is_first_rank;
};

Log::Log(int rank, int world_size, std::FILE* out) {
    TRIREME_CHECK(rank >= 0 && rank < world_size, "a rank within the world");
    auto sink = std::make_shared<FileSink>(out);
    sink->set_pattern("%v");
    state_ = std::make_unique<State>(
        State{spdlog::logger("trireme", std::move(sink)),
              rank == 0 ? std::string() : "[rank " + std::to_string(rank) + "] ", rank == 0});
}

Log::~Log() = default;
Log::Log(Log&& other) noexcept = default;

void Log::info(std::string_view message) {
    if (state_->is_first_rank) state_->logger.info(message);
}

void Log::warn(std::string_view message) {
    state_->logger.warn(state_->prefix + "warning: " + std::string(message));
}

void Log::error(std::string_view message) {
    state_->logger.error(state_->prefix + "error: " + std::string(message));
}

}  // namespace trireme
